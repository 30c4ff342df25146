"""Usual forms of secrets, each with the part that must not be seen, and harmless texts that look alike.

The secrets are made up. They are put together from pieces, so that no scanner of repositories takes them for
real ones.
"""

from __future__ import annotations

_A = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"
_JWT = ".".join(("ey" + "JhbGciOiJIUzI1NiJ9", "ey" + "JzdWIiOiIxMjM0In0", "dQw4w9WgXcQ_abc-def"))
_PEM = f"-----BEGIN RSA {'PRIVATE'} KEY-----\nMIIEow{_A}\n{_A}\n-----END RSA {'PRIVATE'} KEY-----"

SECRETS = (
    ("password=hunter2", "hunter2"),
    ("passwd: correct-horse", "correct-horse"),
    ("token=abc123def456", "abc123def456"),
    ('"api_key": "k3y-of-mine-99"', "k3y-of-mine-99"),
    ("{'secret_key': 'shh-not-a-word'}", "shh-not-a-word"),
    ("client_secret=Zm9vYmFyYmF6", "Zm9vYmFyYmF6"),
    ("gh" + f"p_{_A}", _A),
    ("github" + f"_pat_11ABCDEFG0_{_A}", _A),
    ("h" + f"f_{_A}", _A),
    ("s" + f"k-{_A}", _A),
    ("s" + f"k-proj-{_A}", _A),
    ("s" + f"k-ant-api03-{_A}", _A),
    ("AKI" + "AABCDEFGHIJKLMNOP", "ABCDEFGHIJKLMNOP"),
    (f"aws_secret_access_key = {_A}/abc+", _A),
    ("xox" + "b-123456789012-abcdefABCDEF", "123456789012-abcdefABCDEF"),
    ("https://hooks.slack" + ".com/services/T000/B000/abcdefXYZ", "abcdefXYZ"),
    (f"found {_JWT} in the body", "dQw4w9WgXcQ"),
    ("Authorization: Bearer abc.def", "abc.def"),
    ("curl -H 'Authorization: Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
    ("then Basic dXNlcjpwYXNz was sent", "dXNlcjpwYXNz"),
    ("x-api-key: q1w2e3r4t5", "q1w2e3r4t5"),
    ("Cookie: session=s3ss10n; theme=dark", "s3ss10n"),
    (_PEM, "MIIEow"),
    ("serve --token s3cr3t-word", "s3cr3t-word"),
    ("wandb login --api-key 'k3y k3y k3y'", "k3y k3y k3y"),
    ("postgres://user:pa55word@host/db", "pa55word"),
    ("https://x-access-token:t0k3n@github.com/a/b", "t0k3n"),
    ("git clone https://" + f"{_A}@github.com/a/b", _A),
    ("WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567", "0123456789abcdef"),
    ("export HF_TOKEN='not-of-the-usual-form'", "not-of-the-usual-form"),
    ("https://host/blob?sv=1&sig=abc%2Fdef%3D", "abc%2Fdef"),
    ("https://host/o?X-Amz-Signature=0f0f0f0f0f0f", "0f0f0f0f0f0f"),
    ("machine api.wandb.ai login user password 12ab34cd", "12ab34cd"),
    ("AIz" + f"a{_A[:35]}", _A[:35]),
    ("glp" + "at-abcdefghij1234567890", "abcdefghij1234567890"),
    ("npm" + f"_{_A}", _A),
    ('{\\"auth_token\\": \\"abcdef123456\\"}', "abcdef123456"),
)
"""Text, and what of it must be hidden."""

HARMLESS = (
    "run 0123456789abcdef0123456789abcdef: 96 tokens",
    "key optim.lr, tokenizer.json, keys and locks",
    "pad_token='<|endoftext|>' eos_token: </s> bos_token=[BOS]xyz",
    "max_new_tokens: 512, num_tokens=1234567",
    "tokenizer=AutoTokenizer.from_pretrained(path)",
    "token=17 token: 1234567",
    "RAY_AUTH_MODE=token",
    "Basic training takes ten steps",
    "the bearer of this message",
    "hf_hub_download(repo_id, filename)",
    "sk-learn-compatible-estimator",
    "a risk-averse scheduler-with-backoff",
    "password: required",
    "give --token TOKEN or set HF_TOKEN",
    "WANDB_API_KEY=${WANDB_API_KEY}",
    "about: ${oc.env:WANDB_API_KEY}",
    "password=<your password>",
    "sort_key=accuracy_sampled key=optim.lr",
    "KeyError: 'accuracy_greedy'",
    "https://huggingface.co/Qwen/Qwen2.5-7B?revision=main",
    "http://127.0.0.1:8050/runs?filter=optim.lr%3D1e-4",
    "s3://bucket/folder/file@v2",
    "authentication failed: the cluster refused the token",
    "secretary=Ann keyboard: qwerty tokenization: bpe-50257",
    'token_ids=[101, 2023], "next_token": "therefore"',
)
"""Texts of our field with no secret in them."""
