"""What runs in the containers of a pod: an agent that knows nothing of Tollgate but what its variables
say. It makes so many calls; with `stream` it reads a slow answer instead. Told to end, it ends what it
does, and says goodbye by a last call."""

import json
import os
import signal
import sys
import urllib.error
import urllib.request

ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")


def call(**settings):
    asked = {f"x-mock-{name}": value for name, value in settings.items()}
    body = {
        "model": "gpt-4o",
        "max_tokens": 100,
        "stream": bool(settings),
        "messages": [{"role": "user", "content": "Hi"}],
    }
    headers = {"content-type": "application/json", "authorization": "Bearer sk-test"}
    headers |= {"x-test": os.environ["TEST"]} | asked
    request = urllib.request.Request(f"{base}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            for line in answer:
                if line.strip():
                    print("piece:", line[:40], flush=True)
    except urllib.error.HTTPError as refused:
        sys.exit(f"refused: {refused.read().decode()}")


if sys.argv[1] == "stream":
    call(events="20", gap="100ms")
else:
    for _ in range(int(sys.argv[1])):
        call()
if ended:
    call()
    print("goodbye", flush=True)
