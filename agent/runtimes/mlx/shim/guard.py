"""What a request may say. Pure: a body in, the body for mlx-lm or a Refusal out.

One bad request can end mlx-lm's generator for everybody (a stop that is no text, a top_k above the vocabulary, a bias for an
id that does not exist: SIGSEGV). So nothing passes that was not looked at: known fields are checked, copied and brought
into mlx-lm's form, what would be ignored silently though it changes the answer is refused, all else is dropped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


class Refusal(Exception):
    """An answer instead of tokens, in OpenAI's form."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> Body:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Limits:
    served_name: str
    context_tokens: int
    max_output_tokens: int
    world_size: int
    # Ids that the head scores, and how many of them the tokenizer can name.
    head_ids: int
    text_ids: int
    # Parameters of the tokenizer's apply_chat_template: a template argument of that name would steer the tokenizer.
    reserved_template_names: frozenset[str] = frozenset()


# Least and greatest. Beyond them lie NaN, overflow in half floats, or mlx-lm's own exceptions in the generator thread.
NUMBERS: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
    "repetition_penalty": (0, 100),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 0.5),
}
WHOLE_NUMBERS: Mapping[str, tuple[int, int]] = {
    "repetition_context_size": (0, 2**20),
    "presence_context_size": (0, 2**20),
    "frequency_context_size": (0, 2**20),
    "top_logprobs": (0, 11),
}
# mlx-lm takes these as floats only.
ALWAYS_FLOAT = ("xtc_probability", "xtc_threshold")
# Below this a temperature is greedy in all but name, and its inverse overflows.
LEAST_TEMPERATURE = 1e-3
# mlx-lm knows nothing of these, or is not allowed to: (the values that mean the same as absent).
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "functions": ([],),
    "function_call": ("none",),
    "tool_choice": ("auto", "none"),
    "adapters": (),
    "draft_model": (),
    "num_draft_tokens": (),
}
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1024
MAX_BIASES = 1024
MAX_BIAS = 100
# Names that transformers' apply_chat_template may have though the signature at hand hides them.
RESERVED_TEMPLATE_NAMES = frozenset(
    "conversation messages tools documents chat_template add_generation_prompt continue_final_message tokenize padding "
    "truncation max_length return_tensors return_dict return_assistant_tokens_mask tokenizer_kwargs".split()
)


def check(body: Any, chat: bool, limits: Limits) -> Body:
    """The body to hand to mlx-lm, still without a token count. `max_tokens` is in it only when the client gave one."""
    if not isinstance(body, dict):
        raise Refusal("the body must be a JSON object")
    body = {key: value for key, value in body.items() if value is not None}
    _check_encodable(body)
    _check_model(body, limits)
    _check_unsupported(body)
    out: Body = {"model": limits.served_name, **(_chat(body, limits) if chat else _completion(body))}
    out.update(_streaming(body))
    out.update(_sampling(body, limits))
    out.update(_logprobs(body, limits))
    for part in (_stop(body), _logit_bias(body, limits), _seed(body, limits), _max_tokens(body, limits)):
        out.update(part)
    return out


def fit_tokens(body: Body, prompt_tokens: int, limits: Limits) -> Body:
    """The body with its max_tokens: as asked or refused, never clamped; absent, all that fits."""
    if prompt_tokens == 0:
        raise Refusal("the prompt is empty", "prompt")
    asked = body.get("max_tokens")
    room = limits.context_tokens - prompt_tokens
    if asked is None and room < 1:
        raise Refusal(
            f"the prompt has {prompt_tokens} tokens, which leaves no room for an answer: the context is "
            f"{limits.context_tokens} tokens",
            "messages" if "messages" in body else "prompt",
            "context_length_exceeded",
        )
    if asked is not None and asked > room:
        raise Refusal(
            f"{prompt_tokens} tokens of prompt and max_tokens {asked} are {prompt_tokens + asked} tokens; the context is "
            f"{limits.context_tokens} tokens",
            "max_tokens",
            "context_length_exceeded",
        )
    return {**body, "max_tokens": asked if asked is not None else min(limits.max_output_tokens, room)}


def _check_encodable(body: Body) -> None:
    """Half of a surrogate pair is valid JSON and no text; the tokenizer raises on it."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refusal("the body holds text that is not valid Unicode") from None


def _check_model(body: Body, limits: Limits) -> None:
    model = body.get("model", limits.served_name)
    if not isinstance(model, str):
        raise Refusal("model must be a text", "model")
    if model not in (limits.served_name, "default_model"):
        raise Refusal(f"the model {model!r} is not served here", "model", "model_not_found", 404)


def _check_unsupported(body: Body) -> None:
    for name, harmless in UNSUPPORTED.items():
        if name in body and not any(body[name] == value and type(body[name]) is type(value) for value in harmless):
            raise Refusal(f"{name} is not supported by this engine", name, "unsupported_parameter")


def _completion(body: Body) -> Body:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise Refusal("prompt must be one text that is not empty", "prompt")
    return {"prompt": prompt}


def _chat(body: Body, limits: Limits) -> Body:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal("messages must be a list that is not empty", "messages")
    out: Body = {"messages": [_message(message, f"messages[{i}]") for i, message in enumerate(messages)]}
    tools = body.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Refusal("tools must be a list of objects", "tools")
    if tools and body.get("tool_choice") != "none":
        out["tools"] = tools
    if (arguments := _template_arguments(body, limits)) is not None:
        out["chat_template_kwargs"] = arguments
    return out


def _message(message: Any, where: str) -> Body:
    if not isinstance(message, dict):
        raise Refusal(f"{where} must be an object", where)
    if not isinstance(message.get("role"), str) or not message["role"]:
        raise Refusal(f"{where}.role must be a text", f"{where}.role")
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise Refusal(f"{where}.tool_calls must be a list of objects", f"{where}.tool_calls")
    return {**message, "content": _content(message.get("content"), f"{where}.content")}


def _content(content: Any, where: str) -> str:
    """Text, or parts of text. Anything else is refused: mlx-lm would fetch the address of an image from the network."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise Refusal(f"{where} must be a text or a list of parts", where)
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Refusal(f"{where}: only parts of type text are supported", where)
    return "".join(part["text"] for part in content)


def _template_arguments(body: Body, limits: Limits) -> Body | None:
    arguments = body.get("chat_template_kwargs")
    if arguments is None:
        return None
    if not isinstance(arguments, dict):
        raise Refusal("chat_template_kwargs must be an object", "chat_template_kwargs")
    taken = (RESERVED_TEMPLATE_NAMES | limits.reserved_template_names) & arguments.keys()
    if taken:
        raise Refusal(f"chat_template_kwargs must not hold {sorted(taken)[0]}", "chat_template_kwargs")
    return arguments


def _streaming(body: Body) -> Body:
    stream = body.get("stream", False)
    if not isinstance(stream, bool):
        raise Refusal("stream must be true or false", "stream")
    options = body.get("stream_options")
    if options is None:
        return {"stream": stream}
    if not isinstance(options, dict) or not isinstance(options.get("include_usage"), bool):
        raise Refusal("stream_options must be an object with include_usage true or false", "stream_options")
    return {"stream": stream, "stream_options": {"include_usage": options["include_usage"]}}


def _sampling(body: Body, limits: Limits) -> Body:
    out: Body = {}
    for name, (least, greatest) in NUMBERS.items():
        if name in body:
            out[name] = _number(body[name], name, least, greatest)
    for name, (least, greatest) in WHOLE_NUMBERS.items():
        if name in body:
            out[name] = _whole(body[name], name, least, greatest)
    for name in ALWAYS_FLOAT:
        if name in out:
            out[name] = float(out[name])
    if out.get("temperature", 1) < LEAST_TEMPERATURE:
        out["temperature"] = 0
    if "top_k" in body:
        top_k = _whole(body["top_k"], "top_k", 0, limits.head_ids)
        # The whole vocabulary is no restriction; mlx-lm raises on it.
        out["top_k"] = 0 if top_k == limits.head_ids else top_k
    return out


def _logprobs(body: Body, limits: Limits) -> Body:
    logprobs = body.get("logprobs", False)
    if not isinstance(logprobs, bool):
        raise Refusal("logprobs must be true or false", "logprobs")
    if body.get("top_logprobs", 0) and isinstance(body["top_logprobs"], int) and body["top_logprobs"] > limits.head_ids:
        raise Refusal("top_logprobs is larger than the vocabulary", "top_logprobs")
    return {"logprobs": logprobs}


def _stop(body: Body) -> Body:
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None or stops == []:
        return {}
    if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops):
        raise Refusal("stop must be a text or a list of texts, none of them empty", "stop")
    if len(stops) > MAX_STOPS or sum(len(text) for text in stops) > MAX_STOP_CHARACTERS:
        raise Refusal(f"stop must have at most {MAX_STOPS} texts and {MAX_STOP_CHARACTERS} characters", "stop")
    return {"stop": stops}


def _logit_bias(body: Body, limits: Limits) -> Body:
    bias = body.get("logit_bias")
    if bias is None or bias == {}:
        return {}
    if not isinstance(bias, dict) or len(bias) > MAX_BIASES:
        raise Refusal(f"logit_bias must be an object of at most {MAX_BIASES} token ids", "logit_bias")
    ids = min(limits.head_ids, limits.text_ids)
    out = {}
    for key, value in bias.items():
        if not (key.isascii() and key.isdigit()) or len(key) > 9 or int(key) >= ids:
            raise Refusal(f"logit_bias: {key!r} is no token id from 0 to {ids - 1}", "logit_bias")
        out[str(int(key))] = _number(value, "logit_bias", -MAX_BIAS, MAX_BIAS)
    return {"logit_bias": out}


def _seed(body: Body, limits: Limits) -> Body:
    if "seed" not in body:
        return {}
    seed = _whole(body["seed"], "seed", -(2**63), 2**63 - 1)
    if limits.world_size > 1:
        # mlx-lm runs such a request outside the batch; a client that leaves then wedges all ranks, alive.
        raise Refusal("seed is not supported by a model that runs on several machines", "seed", "unsupported_parameter")
    # The generator of random numbers takes the same 64 bits unsigned.
    return {"seed": seed & (2**64 - 1)}


def _max_tokens(body: Body, limits: Limits) -> Body:
    name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    if name not in body:
        return {}
    if type(body[name]) is not int or body[name] < 1:
        raise Refusal(f"{name} must be a whole number of at least 1", name)
    if body[name] > limits.max_output_tokens:
        raise Refusal(
            f"{name} is {body[name]}; the most is {limits.max_output_tokens}", name, "context_length_exceeded"
        )
    return {"max_tokens": body[name]}


def _number(value: Any, name: str, least: float, greatest: float) -> float:
    # bool is an int to Python; whole numbers may be too large for a float.
    if type(value) not in (int, float) or not least <= value <= greatest or not math.isfinite(value):
        raise Refusal(f"{name} must be a number from {least:g} to {greatest:g}", name)
    return value


def _whole(value: Any, name: str, least: int, greatest: int) -> int:
    if type(value) is not int or not least <= value <= greatest:
        raise Refusal(f"{name} must be a whole number from {least} to {greatest}", name)
    return value
