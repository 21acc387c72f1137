"""The unmodified OpenAI client library against `confide proxy`.

CONFIDE_BASE_URL names the proxy's endpoint, as in http://127.0.0.1:8787/v1; `cargo xtask test --stage openai`
starts a guest and a proxy and sets it.
"""

import asyncio
import os
import sys
import unittest

import openai

BASE_URL = os.environ["CONFIDE_BASE_URL"]
QUESTION = [{"role": "user", "content": "What is an RTMR?"}]


def client() -> openai.OpenAI:
    return openai.OpenAI(base_url=BASE_URL, api_key="local", max_retries=0, timeout=60)


class OpenAiClient(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)
        self.model = self.client.models.list().data[0].id

    def answer(self, **options):
        options = {"messages": QUESTION, "temperature": 0, "max_tokens": 64} | options
        return self.client.chat.completions.create(model=self.model, **options)

    def test_models_are_listed(self):
        models = self.client.models.list().data
        self.assertEqual([model.object for model in models], ["model"] * len(models))
        self.assertTrue(self.model)

    def test_a_question_is_answered(self):
        completion = self.answer()
        choice = completion.choices[0]
        self.assertEqual(completion.object, "chat.completion")
        self.assertEqual(choice.message.role, "assistant")
        self.assertEqual(choice.finish_reason, "stop")
        self.assertIn("register", choice.message.content.lower())
        usage = completion.usage
        self.assertGreater(usage.prompt_tokens, 0)
        self.assertGreater(usage.completion_tokens, 0)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def test_a_streamed_answer_is_the_same_answer(self):
        whole = self.answer().choices[0].message.content
        chunks = list(self.answer(stream=True))
        self.assertEqual({chunk.object for chunk in chunks}, {"chat.completion.chunk"})
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)
        deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
        self.assertGreater(len(deltas), 2, "an answer of many tokens arrives in more than two pieces")
        self.assertEqual("".join(delta.delta.content or "" for delta in deltas), whole)
        self.assertEqual(deltas[-1].finish_reason, "stop")

    def test_a_stream_reports_its_usage_when_asked(self):
        chunks = list(self.answer(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage, self.answer().usage)
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))

    def test_the_token_limit_ends_an_answer(self):
        completion = self.answer(max_tokens=3)
        self.assertEqual(completion.choices[0].finish_reason, "length")
        self.assertEqual(completion.usage.completion_tokens, 3)

    def test_many_at_once_get_the_answer_that_one_gets(self):
        alone = self.answer().choices[0].message.content

        async def ask_many():
            async with openai.AsyncOpenAI(base_url=BASE_URL, api_key="local", max_retries=0, timeout=60) as many:
                return await asyncio.gather(
                    *(
                        many.chat.completions.create(
                            model=self.model, messages=QUESTION, temperature=0, max_tokens=64
                        )
                        for _ in range(8)
                    )
                )

        answers = [completion.choices[0].message.content for completion in asyncio.run(ask_many())]
        self.assertEqual(answers, [alone] * 8)

    def test_a_conversation_and_a_system_message_are_taken(self):
        messages = [
            {"role": "system", "content": "Answer in one sentence."},
            *QUESTION,
            {"role": "assistant", "content": "A register."},
            {"role": "user", "content": "What is a quote?"},
        ]
        self.assertTrue(self.answer(messages=messages).choices[0].message.content)

    def test_an_unknown_model_is_the_librarys_not_found(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="no-such-model", messages=QUESTION)
        self.assertEqual(caught.exception.code, "model_not_found")

    def test_a_wrong_parameter_is_the_librarys_bad_request(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.answer(temperature=-1)
        self.assertTrue(caught.exception.code)
        with self.assertRaises(openai.BadRequestError):
            self.answer(messages=[])

    def test_an_unknown_endpoint_is_the_librarys_not_found(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.embeddings.create(model=self.model, input="text")
        self.assertTrue(caught.exception.code)

    def test_the_client_outlives_its_errors(self):
        with self.assertRaises(openai.APIStatusError):
            self.answer(messages=[])
        self.assertTrue(self.answer().choices[0].message.content)


if __name__ == "__main__":
    unittest.main(testRunner=unittest.TextTestRunner(stream=sys.stdout, verbosity=2))
