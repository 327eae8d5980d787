"""Where the node touches the network: SOAP, MLLP, outgoing calls, limits."""
