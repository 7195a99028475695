"""An agent as people write them: it knows nothing of Tollgate. Asks a question as often as it is
told to, and ends with the exit code that it is told to."""

import sys

from openai import OpenAI

client = OpenAI()
for _ in range(int(sys.argv[1])):
    answer = client.chat.completions.create(
        model="gpt-4o",
        max_tokens=1000,
        messages=[{"role": "user", "content": "Say something."}],
    )
    print(answer.choices[0].message.content)
sys.exit(int(sys.argv[2]))
