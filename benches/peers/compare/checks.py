"""Shows that every proxy does mutual TLS before anything is measured.

Owns: the five facts of each proxy. Never: goes on where one of them is missing.
"""

import http.client
import ssl

from . import upstream
from .pki import CLIENT, NAME
from .processes import PROXY_CPU, Process, free, get
from .proxies import Work
from .say import Failure, say


def stranger_is_refused(pki, first):
    """The upstream itself: no certificate, no answer but 400."""
    context = ssl.create_default_context(cafile=pki.path("server-ca.crt"))
    context.check_hostname = False
    connection = http.client.HTTPSConnection("127.0.0.1", first + upstream.MAIN, context=context, timeout=10)
    connection.request("GET", "/", headers={"Host": NAME})
    status = connection.getresponse().status
    connection.close()
    if status != 400:
        raise Failure(f"the upstream answered {status} to a client without certificate, not 400")


def mutual(proxy, first, listen):
    """One line of what was seen."""
    process = proxy.start(Work(listen, first + upstream.MAIN))
    try:
        status, text = get(listen, NAME, "/who")
    finally:
        process.end()
    wanted = ["verify=SUCCESS", f"dn={CLIENT} ", f"sni={NAME} ", "tls=TLSv1.3 ", "suite=TLS_AES_128_GCM_SHA256"]
    missing = [word for word in wanted if word not in text]
    if status != 200 or missing:
        raise Failure(f"{proxy.name}: the upstream saw {status} {text!r}, without {missing}")
    refused = {}
    for what, offset in (("another CA", upstream.OTHER_CA), ("another name", upstream.OTHER_NAME)):
        refused[what] = refusal(proxy, first + offset, listen)
    outcome = ", ".join(f"{what}: {answer}" for what, answer in refused.items())
    say(f"{proxy.name}: mutual TLS ({text.strip()}); {outcome}")
    return {"seen": text.strip(), **refused}


def refusal(proxy, port, listen):
    """An upstream that must not be talked to: an error of the proxy's own, or no answer."""
    free(listen)
    work = Work(listen, port)
    process = Process(proxy.name, proxy.command(work), proxy.folder / "refusal.log", PROXY_CPU)
    try:
        process.wait_port(listen)
        status, text = get(listen, NAME, "/who")
    finally:
        process.end()
    if status is None:
        return "closed"
    if status not in (502, 503) or "verify=SUCCESS" in text:
        raise Failure(f"{proxy.name}: an upstream that must be refused was answered {status} {text!r}")
    return str(status)
