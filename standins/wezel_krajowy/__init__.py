"""A stand-in of Węzeł Krajowy (login.gov.pl): ``python -m standins.wezel_krajowy --help``. It proves nobody.

What is known of the real one is in src/obieg/codes/national/pl/wezel_krajowy.toml; beyond that it is an assumption. It
shares no code with the node: it signs by signxml or xmlsec, verifies by signxml and encrypts by itself, so that
implementations meet.
"""
