"""The proposer that asks a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kernelagent.redact import Redactor

from .base import Context, Proposal
from .chat import Answer, Chat, Message
from .fences import extract
from .prompting import guide, proposal_prompt, repair_prompt, system_prompt

_TECHNIQUE = re.compile(r"#\s*technique:\s*([\w-]+)")
_KEPT_ANSWER = 4000
"""Characters of a useless answer that are shown to the model again."""


class LlmProposer:
    """One question a proposal, one more for each repair. Prompts hold no secret: they pass the redactor."""

    name = "llm"

    def __init__(self, chat: Chat, redactor: Redactor, language: str | None = None) -> None:
        self.chat = chat
        self._redactor = redactor
        self._language = language

    def propose(self, context: Context) -> Proposal:
        answer = self.chat.ask(self.messages(context))
        found = extract(answer.text)
        failure = found.failure and (f"{answer.broken}; {found.failure}" if answer.broken else found.failure)
        text = found.text
        return Proposal(
            text=text,
            technique=_technique(text, context),
            parent=context.best.id if context.best else None,
            tokens=answer.prompt_tokens + answer.answer_tokens,
            tokens_estimated=answer.estimated,
            cost_usd=self.chat.endpoint.cost(answer.prompt_tokens, answer.answer_tokens),
            note=_note(answer),
            failure=failure,
        )

    def listen(self, notify: Callable[[Mapping[str, Any]], object]) -> None:
        self.chat.notify = notify

    def repairs(self, context: Context) -> bool:
        return True

    def messages(self, context: Context) -> list[Message]:
        """System prompt, question and, for a repair, the last answer with what is wrong with it."""
        language = self._language if self._language is not None else guide()
        messages = [_message("system", system_prompt(language)), _message("user", proposal_prompt(context))]
        if context.failed is not None:
            said = context.failed.proposal.text or "(no kernel)"
            messages += [_message("assistant", said[:_KEPT_ANSWER]), _message("user", repair_prompt(context.failed))]
        return [{**m, "content": self._redactor.text(m["content"])} for m in messages]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _technique(text: str | None, context: Context) -> str | None:
    """The technique that the text names, if it is one that was suggested."""
    known = {s.technique.name for s in context.suggestions}
    named: Sequence[str] = _TECHNIQUE.findall(text or "")
    return next((n for n in named if n in known), None)


def _note(answer: Answer) -> str:
    counted = "about " if answer.estimated else ""
    tries = f", {answer.attempts} attempts" if answer.attempts > 1 else ""
    return f"{counted}{answer.prompt_tokens} + {answer.answer_tokens} tokens{tries}"
