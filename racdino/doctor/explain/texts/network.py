"""What connections, proxies and certificates say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known

KNOWN = (
    Known(
        "RX951",
        (
            "CERTIFICATE_VERIFY_FAILED",
            "invalid peer certificate: UnknownIssuer",
            "server certificate verification failed",
            "SSL certificate problem: unable to get local issuer certificate",
        ),
        "a proxy of the company signs connections with a certificate that is not known here",
        "`export SSL_CERT_FILE=/path/to/company-ca.pem REQUESTS_CA_BUNDLE=$SSL_CERT_FILE`; never switch the check off",
        "pip's and uv's manuals; README, Setting up",
        doctor="RD953",
    ),
    Known(
        "RX952",
        ("407 Proxy Authentication Required",),
        "the proxy wants a user and a password",
        "`export HTTPS_PROXY=http://USER:PASSWORD@proxy:port HTTP_PROXY=$HTTPS_PROXY`, special characters as %40",
        "pip's manual",
    ),
    Known(
        "RX953",
        (
            "Temporary failure in name resolution",
            "Name or service not known",
            "Could not resolve host: …",
            "failed to lookup address information",
        ),
        "there is no network here, or names are resolved by a proxy only",
        "`export HTTPS_PROXY=... HTTP_PROXY=...`; without a network install from `invoke bundle DIR` made elsewhere",
        "README, The image",
    ),
    Known(
        "RX954",
        ("HTTP Error 403: rate limit exceeded",),
        "torch.hub asks GitHub on each start and GitHub has had enough of this address",
        "`racdino weights fetch dinov2_vitb14` once: RacDINO asks nobody afterwards",
        "torch/hub.py",
    ),
    Known(
        "RX955",
        ("Read timed out. (read timeout=…)", "IncompleteRead(…)", "operation timed out", "Connection reset by peer"),
        "a download broke off",
        "run the same command again: `make setup` and `racdino weights fetch` continue; `UV_HTTP_TIMEOUT=300` waits "
        "longer",
        "pytorch#110847; poetry#10521",
        within="http",
    ),
    Known(
        "RX956",
        ("Could not find a suitable TLS CA certificate bundle, invalid path: …",),
        "a variable names a file of certificates that does not exist: {0}",
        "correct or `unset REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE`",
        "requests' manual",
        doctor="RD953",
    ),
    Known(
        "RX957",
        (
            "Proxy URL had no scheme",
            "Not supported proxy scheme",
            "Unable to determine SOCKS version",
            "Missing dependencies for SOCKS support",
        ),
        "a proxy variable is not of the form http://host:port",
        "`env | grep -i proxy` shows them: write `http://host:port`, also for https",
        "urllib3's manual",
        doctor="RD951",
    ),
    Known(
        "RX958",
        ("toomanyrequests: You have reached your", "toomanyrequests: Too Many Requests"),
        "the container registry gives no more images to this address for now",
        "`docker login`, or wait; `make image` makes its base from Debian's packages where no registry answers",
        "Docker Hub's manual",
    ),
    Known(
        "RX959",
        ("Cannot connect to proxy", "Tunnel connection failed: …"),
        "the proxy refuses or does not answer",
        "`env | grep -i proxy` shows what is set; hosts inside the company belong in NO_PROXY",
        "pip's manual",
    ),
)
