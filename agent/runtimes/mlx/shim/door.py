"""The leader's HTTP, on 127.0.0.1 for its shardhost only: mlx_lm.server's handler behind the guard.

The body is read here, checked, completed and handed on as if it had come so; mlx-lm does the rest. A request waits here,
not in the generator, until there is KV cache for it, and is cancelled when its client leaves, streaming or not.
"""

from __future__ import annotations

import inspect
import io
import json
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from mlx_lm import server

from . import guard
from .guard import Body, Limits, Refusal
from .shard import Shard

MAX_BODY_BYTES = 32 * 2**20
COMPLETIONS = "/v1/completions"
CHAT = ("/v1/chat/completions", "/chat/completions")


class EngineFailure(BaseException):
    """mlx-lm could not answer a checked request. Not an Exception: its handler would turn that into a 404."""


class ClientGone(ConnectionError):
    """Nobody waits for the answer any more."""


def raise_if_gone(connection: socket.socket) -> None:
    """Readable and at its end: the client has closed. (It has nothing more to say: one request per connection.)"""
    readable, _, _ = select.select([connection], [], [], 0)
    if readable and connection.recv(1, socket.MSG_PEEK) == b"":
        raise ClientGone("the client has left")


class Counter:
    """Counts a request's tokens as the generator will, template and all, in the thread of the request.

    So each prompt is tokenised twice (about 1 ms per 1000 tokens); in return, what the tokenizer or the template cannot
    digest is refused here and never reaches the generator. One at a time, so that it takes at most one core.
    """

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._one = threading.Lock()

    def count(self, body: Body) -> int:
        tokenizer = self._generator.model_provider.tokenizer
        chat = "messages" in body
        # mlx-lm rewrites messages while it tokenises them.
        messages = json.loads(json.dumps(body.get("messages", [])))
        request = server.CompletionRequest(
            "chat" if chat else "text", body.get("prompt", ""), messages, body.get("tools"), None
        )
        arguments = SimpleNamespace(chat_template_kwargs=body.get("chat_template_kwargs"))
        try:
            with self._one:
                tokens = self._generator._tokenize(tokenizer, request, arguments)[0]
                stops = [tokenizer.encode(text, add_special_tokens=False) for text in body.get("stop", [])]
        except Exception as e:
            raise Refusal(
                f"the model's template or tokenizer refuses this: {e}", "messages" if chat else "prompt"
            ) from e
        if not all(stops):
            raise Refusal("stop: a text that has no tokens", "stop")
        return len(tokens)


class CancelWhenGone:
    """A generator for one request that stops when the client leaves. mlx-lm by itself notices only a failed write."""

    def __init__(self, generator: Any, connection: socket.socket, shard: Shard) -> None:
        self._generator = generator
        self._connection = connection
        # Outside a batch mlx-lm's ranks do not agree on a cancellation: the others would wait for ever.
        self._may_cancel = not shard.config.gang or generator.model_provider.is_batchable

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def generate(self, request: Any, arguments: Any, progress_callback: Callable[[int, int], None]) -> Any:
        def progress(done: int, total: int) -> None:
            raise_if_gone(self._connection)
            progress_callback(done, total)

        try:
            context, responses = self._generator.generate(request, arguments, progress_callback=progress)
        except Exception as e:
            raise EngineFailure(str(e)) from e
        if not self._may_cancel:
            context.stop = lambda: None
        return context, self._watched(responses)

    def _watched(self, responses: Iterator[Any]) -> Iterator[Any]:
        for response in responses:
            raise_if_gone(self._connection)
            yield response


class GuardedHandler(server.APIHandler):
    def __init__(self, shard: Shard, counter: Counter, response_generator: Any, *args: Any, **kwargs: Any) -> None:
        # First: the base class handles the request in its constructor.
        self._shard = shard
        self._counter = counter
        super().__init__(response_generator, *args, **kwargs)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            super().do_GET()
        elif path == "/v1/models":
            self._answer(200, {"object": "list", "data": [self._model()]})
        elif path == f"/v1/models/{self._shard.config.served_name}":
            self._answer(200, self._model())
        else:
            self._refuse(Refusal(f"there is no {path}", code="not_found", status=404))

    def do_POST(self) -> None:
        try:
            body = self._checked_body()
            self._shard.slots.take(partial(raise_if_gone, self.connection))
            try:
                self._forward(body)
            finally:
                self._shard.slots.give_back()
        except Refusal as refusal:
            self._refuse(refusal)
        except EngineFailure as failure:
            self._refuse(Refusal(f"the engine failed: {failure}", code="engine_failed", status=500))
        except ConnectionError:
            self.close_connection = True

    def _checked_body(self) -> Body:
        self.path = self.path.partition("?")[0]
        if self.path != COMPLETIONS and self.path not in CHAT:
            raise Refusal(f"there is no {self.path}", code="not_found", status=404)
        raw = self._read_body()
        if not self.response_generator.is_healthy:
            raise Refusal("the model is not ready", code="not_ready", status=503)
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError) as e:
            raise Refusal(f"the body is not JSON: {e}") from e
        limits = self._limits()
        checked = guard.check(body, self.path in CHAT, limits)
        return guard.fit_tokens(checked, self._counter.count(checked), limits)

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length")
        if length is None:
            raise Refusal("Content-Length is missing", status=411)
        if not length.isascii() or not length.isdigit():
            raise Refusal("Content-Length is no number")
        if int(length) > MAX_BODY_BYTES:
            raise Refusal(f"the body is larger than {MAX_BODY_BYTES} bytes", status=413)
        return self.rfile.read(int(length))

    def _forward(self, body: Body) -> None:
        """To mlx-lm's own handler, as if the client had sent just this."""
        raw = json.dumps(body).encode()
        self.headers.replace_header("Content-Length", str(len(raw)))
        self.response_generator = CancelWhenGone(self.response_generator, self.connection, self._shard)
        received, self.rfile = self.rfile, io.BytesIO(raw)
        try:
            super().do_POST()
        finally:
            self.rfile = received

    def _limits(self) -> Limits:
        config = self._shard.config
        tokenizer = self.response_generator.model_provider.tokenizer
        return Limits(
            served_name=config.served_name,
            context_tokens=config.context_tokens,
            max_output_tokens=config.max_output_tokens,
            world_size=config.world_size,
            head_ids=self._shard.head_ids,
            text_ids=len(tokenizer),
            reserved_template_names=frozenset(inspect.signature(tokenizer._tokenizer.apply_chat_template).parameters),
        )

    def _model(self) -> Body:
        return {"id": self._shard.config.served_name, "object": "model", "created": self.created, "owned_by": "mctl"}

    def _refuse(self, refusal: Refusal) -> None:
        self._answer(refusal.status, refusal.body())

    def _answer(self, status: int, value: Body) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if self.command == "POST":
            super().log_request(code, size)


class Door(ThreadingHTTPServer):
    daemon_threads = True
    # The default of 5 resets connections when a few clients arrive at once.
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def guarded_http(shard: Shard, original: Callable[..., None]) -> Callable[..., None]:
    """mlx_lm.server._run_http_server with our handler."""

    def run(host: str, port: int, response_generator: Any) -> None:
        handler = partial(GuardedHandler, shard, Counter(response_generator))
        original(host, port, response_generator, server_class=Door, handler_class=handler)

    return run
