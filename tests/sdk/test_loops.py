"""An agent whose model turns in circles is stopped once, in words that it can hand to the model."""

import anthropic
import openai
import pytest

TOOL = {"type": "object", "properties": {}}
QUESTION = {"role": "user", "content": "Find it."}
GO_ON = {"role": "user", "content": "Go on."}


def openai_agent(headers):
    """Calls the tool that the model asks for, finds nothing, and is content with no answer."""
    client = openai.OpenAI(default_headers=headers, max_retries=2)
    tool = {"type": "function", "function": {"name": "look_up", "parameters": TOOL}}
    messages = [QUESTION]
    while True:
        answer = client.chat.completions.create(
            model="gpt-4o", messages=messages, tools=[tool], tool_choice="required"
        )
        message = answer.choices[0].message
        messages.append(message)
        for call in message.tool_calls or []:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "Nothing."})
        if not message.tool_calls:
            messages.append(GO_ON)


def responses_agent(headers):
    """The same, and leaves the conversation to the provider."""
    client = openai.OpenAI(default_headers=headers, max_retries=2)
    tool = {"type": "function", "name": "look_up", "parameters": TOOL, "strict": False}
    given, previous = [QUESTION], None
    while True:
        answer = client.responses.create(
            model="gpt-4o",
            input=given,
            previous_response_id=previous,
            tools=[tool],
            tool_choice="required",
        )
        previous = answer.id
        results = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "Nothing."}
            for item in answer.output
            if item.type == "function_call"
        ]
        given = results or [GO_ON]


def anthropic_agent(headers):
    """The same."""
    client = anthropic.Anthropic(default_headers=headers, max_retries=2)
    tools = [{"name": "look_up", "input_schema": TOOL}]
    messages = [QUESTION]
    while True:
        answer = client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=500,
            messages=messages,
            tools=tools,
            tool_choice={"type": "any"},
        )
        messages.append({"role": "assistant", "content": answer.content})
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "Nothing."}
            for block in answer.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results} if results else GO_ON)


@pytest.mark.parametrize(
    ("agent", "error"),
    [
        (openai_agent, openai.PermissionDeniedError),
        (responses_agent, openai.PermissionDeniedError),
        (anthropic_agent, anthropic.PermissionDeniedError),
    ],
    ids=lambda value: value.__name__,
)
def test_an_agent_that_turns_in_circles_is_stopped_once(calls, agent, error):
    with pytest.raises(error) as stopped:
        agent(calls.headers(agent="circling"))
    assert "`look_up` was called 4 times in a row" in str(stopped.value)
    assert "Use the result that you have" in str(stopped.value)
    assert stopped.value.response.headers["x-tollgate-blocked-by"] == "loop.circles"
    # Four times the tool is asked for and its result answered; what comes then is one attempt.
    assert len(calls.received()) == 8
    assert [span["status"] for span in calls.spans(9)] == ["ok"] * 8 + ["blocked"]
