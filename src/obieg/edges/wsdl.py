"""WSDL of an endpoint, made from the transactions that it serves (ITI TF-2 Appendix V.2.2).

Messages are described as open content: the types of ebXML RegRep and XDS.b are published by OASIS and IHE, and clients
that want typed classes take them from there.
"""

from __future__ import annotations

from collections.abc import Sequence

from obieg.protocol import SoapBinding, Transaction
from obieg.wire.xml import attribute, text

TARGET = "urn:ihe:iti:xds-b:2007"


def write_wsdl(transactions: Sequence[Transaction], address: str) -> bytes:
    """A WSDL 1.1 document with one port for SOAP 1.2 over HTTP."""
    bound = [(t, o) for t in transactions if isinstance(t.binding, SoapBinding) for o in t.binding.operations]
    name = bound[0][1].port_type.partition("_")[0]
    elements: dict[str, dict[str, None]] = {}
    for _, binding in bound:
        for namespace, local_name in (binding.request, binding.response):
            elements.setdefault(namespace, {})[local_name] = None
    prefixes = {namespace: f"m{number}" for number, namespace in enumerate(elements)}
    declared = "".join([f' xmlns:{prefix}="{attribute(namespace)}"' for namespace, prefix in prefixes.items()])
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" '
        'xmlns:soap12="http://schemas.xmlsoap.org/wsdl/soap12/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
        f'xmlns:wsam="http://www.w3.org/2007/05/addressing/metadata" xmlns:tns="{TARGET}"{declared} '
        f'targetNamespace="{TARGET}" name="{name}"><wsdl:types>'
    )
    parts = [head, *[_schema(namespace, names) for namespace, names in elements.items()], "</wsdl:types>"]
    for _, binding in bound:
        for suffix, (namespace, local_name) in (("Message", binding.request), ("ResponseMessage", binding.response)):
            parts.append(
                f'<wsdl:message name="{binding.port_type}_{suffix}">'
                f'<wsdl:part name="body" element="{prefixes[namespace]}:{local_name}"/></wsdl:message>'
            )
    parts.append(f'<wsdl:portType name="{name}_PortType">')
    for transaction, binding in bound:
        parts.append(
            f'<wsdl:operation name="{binding.port_type}">'
            f"<wsdl:documentation>{text(f'{transaction.id} {transaction.name}')}</wsdl:documentation>"
            f'<wsdl:input message="tns:{binding.port_type}_Message" wsam:Action="{binding.action}"/>'
            f'<wsdl:output message="tns:{binding.port_type}_ResponseMessage" wsam:Action="{binding.response_action}"/>'
            "</wsdl:operation>"
        )
    parts.append(
        f'</wsdl:portType><wsdl:binding name="{name}_Binding_Soap12" type="tns:{name}_PortType">'
        '<soap12:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>'
    )
    for _, binding in bound:
        parts.append(
            f'<wsdl:operation name="{binding.port_type}"><soap12:operation soapAction="{binding.action}" '
            'soapActionRequired="false"/><wsdl:input><soap12:body use="literal"/></wsdl:input>'
            '<wsdl:output><soap12:body use="literal"/></wsdl:output></wsdl:operation>'
        )
    parts.append(
        f'</wsdl:binding><wsdl:service name="{name}_Service">'
        f'<wsdl:port name="{name}_Port_Soap12" binding="tns:{name}_Binding_Soap12">'
        f'<soap12:address location="{attribute(address)}"/></wsdl:port></wsdl:service></wsdl:definitions>'
    )
    return "".join(parts).encode()


def _schema(namespace: str, names: dict[str, None]) -> str:
    elements = "".join(
        [
            f'<xsd:element name="{name}"><xsd:complexType><xsd:sequence>'
            '<xsd:any namespace="##any" processContents="lax" minOccurs="0" maxOccurs="unbounded"/></xsd:sequence>'
            '<xsd:anyAttribute namespace="##any" processContents="lax"/></xsd:complexType></xsd:element>'
            for name in names
        ]
    )
    return (
        f'<xsd:schema targetNamespace="{attribute(namespace)}" elementFormDefault="qualified">{elements}</xsd:schema>'
    )
