"""lm-evaluation-harness on given prompts. Runs in its own environment, .peers/lm_eval.

    .peers/lm_eval/bin/python benchmarks/peers/lm_eval_scores.py TASK MODEL QUESTIONS ANSWERS MAX_NEW_TOKENS [DTYPE]

DTYPE is float32 or float64. Its HFLM tokenises and computes, its own code of each task scores.
"""

import json
import sys
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.filters.extraction import RegexFilter
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.ifeval import utils as ifeval
from lm_eval.tasks.truthfulqa import utils as truthfulqa
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

GSM8K_FLEXIBLE = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
"""The pattern of the harness's gsm8k `flexible-extract`, of which the last match counts."""


def scored_choices(lm: HFLM, questions: list[dict]) -> list[dict]:
    instances = [
        Instance("loglikelihood", {}, (each["prompt"], choice), number)
        for number, each in enumerate(questions)
        for choice in each["choices"]
    ]
    found = iter(lm.loglikelihood(instances))
    answers = []
    for each in questions:
        results = [next(found) for _ in each["choices"]]
        labels = [int(index in each["target"]["correct"]) for index in range(len(results))]
        # The harness wants the true choices first.
        order = sorted(range(len(results)), key=lambda index: -labels[index])
        doc = {"mc2_targets": {"labels": [labels[index] for index in order]}}
        score = truthfulqa.process_results_mc2(doc, [results[index] for index in order])["acc"]
        answers.append({"logprobs": [result[0] for result in results], "score": float(score)})
    return answers


def generated(lm: HFLM, questions: list[dict], max_new_tokens: int) -> list[str]:
    settings = {"do_sample": False, "max_gen_toks": max_new_tokens}
    instances = [
        Instance("generate_until", {}, (each["prompt"], {**settings, "until": each["stop"]}), number)
        for number, each in enumerate(questions)
    ]
    return lm.generate_until(instances)


def gsm8k_score(response: str, target: str) -> float:
    found = RegexFilter(regex_pattern=GSM8K_FLEXIBLE, group_select=-1).apply([[response]], [{}])[0][0]
    clean = [text.replace(",", "").replace("$", "").rstrip(".").lower() for text in (found, target)]
    return float(clean[0] == clean[1])


def ifeval_score(response: str, target: dict) -> float:
    doc = {"key": 0, "prompt": target["prompt"], "instruction_id_list": target["instruction_id_list"]}
    doc["kwargs"] = [{key: value for key, value in each.items() if value is not None} for each in target["kwargs"]]
    return float(ifeval.process_results(doc, [response])["prompt_level_loose_acc"])


def main() -> None:
    task, folder, asked, answered, max_new_tokens, *dtype = sys.argv[1:]
    questions = json.loads(Path(asked).read_text())
    # Not AutoTokenizer, which loses this model's pre-tokenizer.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, *dtype or ["float32"]))
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=4096)
    same = [lm.tok_encode(each["prompt"], add_special_tokens=False) == each["ids"] for each in questions]
    if task == "truthfulqa":
        answers = scored_choices(lm, questions)
    else:
        responses = generated(lm, questions, int(max_new_tokens))
        score = gsm8k_score if task == "gsm8k" else ifeval_score
        answers = [
            {"response": response, "score": score(response, each["target"])}
            for response, each in zip(responses, questions, strict=True)
        ]
    for answer, equal in zip(answers, same, strict=True):
        answer["same_ids"] = equal
    Path(answered).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
