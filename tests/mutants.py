"""Mutation tests: one-line mistakes in the learning code, and the tests that have to notice each of them.

Most mistakes in RLHF raise no error: a wrong sign, a shifted mask, a temperature in one place only. Whether
the tests would notice is a question with an answer: make the mistake in a copy and run them there.

    python tests/mutants.py                       all mutants, two minutes or so; exit code 1 if one survives
    python tests/mutants.py --only gae_without_lam
    python tests/mutants.py --list

A process that has imported torch, transformers and pytest, but none of the code under test, forks one child
for every mutant; that needs an operating system with fork (Linux, macOS). Results do not depend on --jobs.

A mutant that no longer fits the code is reported, not skipped: change its text along with the code. If one
survives, a test is missing, or the mutant changes nothing that matters; then take it out.
"""

import argparse
import gc
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 60  # seconds of computing per mutant; of waiting, ten times as many


class Mutant(NamedTuple):
    name: str
    file: str  # in rlhf_lite/
    old: str  # occurs exactly once in the file
    new: str
    wrong: str  # what goes wrong
    pitfall: str  # the number the tests use for this kind of mistake, "" if it has none
    tests: str  # "ppo::test_x sft" stands for tests/test_ppo.py::test_x and tests/test_sft.py


MUTANTS = [
    # ------------------------------------------------------------ models
    Mutant("pad_is_end", "models.py", "PAD, BEGIN, END = 0, 1, 2", "PAD, BEGIN, END = 2, 1, 2",
           "masks made from ids hide the end of a response", "P7",
           "models::test_tokenizer_keeps_any_text_and_its_special_ids"),
    Mutant("prompt_without_begin", "models.py", "return [tokenizer.bos_token_id] + encode_text(", "return encode_text(",
           "prompts look unlike the documents of pretraining", "P16",
           "models::test_special_tokens_typed_by_a_user_stay_text"),
    Mutant("demonstration_without_end", "models.py",
           "return encode_text(tokenizer, response) + [tokenizer.eos_token_id]",
           "return encode_text(tokenizer, response)",
           "the model never learns to stop", "P9", "models::test_template_and_response"),
    Mutant("typed_end_becomes_a_token", "models.py", "split_special_tokens=True", "split_special_tokens=False",
           "a user can end a response by typing <|end|>", "P7",
           "models::test_special_tokens_typed_by_a_user_stay_text"),
    Mutant("score_position_counts_tokens", "models.py",
           "last = (places * attention_mask.long()).argmax(dim=1)", "last = attention_mask.long().sum(dim=1) - 1",
           "under left padding the score is read in the middle of the row", "P11",
           "models::test_padding_on_either_side_changes_nothing"),
    Mutant("score_without_bias", "models.py", "self.score.bias.float()).squeeze(-1)", "None).squeeze(-1)",
           "setting the bias changes nothing: the reward model cannot be normalised", "P31",
           "reward::test_normalise_centres_demonstrations_and_survives_saving"),
    Mutant("trunk_shared_with_policy", "models.py",
           "ScalarModel(copy.deepcopy(policy.base_model))", "ScalarModel(policy.base_model)",
           "training the reward model or critic moves the policy", "P30", "models::test_scalar_head_starts_as_stated"),
    Mutant("score_unit_too_large", "models.py", " / math.sqrt(hidden + 1)", "",
           "the first scores are ten times too large", "P30", "models::test_scalar_head_starts_as_stated"),
    Mutant("reference_is_the_policy", "models.py", "clone = copy.deepcopy(model).eval()", "clone = model.eval()",
           "the reference moves with the policy, so the KL is always 0", "P27",
           "models::test_copy_model_is_separate_and_can_be_frozen"),
    Mutant("reference_is_trainable", "models.py", "clone.requires_grad_(trainable)", "clone.requires_grad_(True)",
           "an optimizer may move the reference", "P27", "models::test_copy_model_is_separate_and_can_be_frozen"),
    Mutant("copy_in_training_mode", "models.py",
           "clone = copy.deepcopy(model).eval()", "clone = copy.deepcopy(model).train()",
           "dropout in the reference", "P22", "models::test_copy_model_is_separate_and_can_be_frozen"),
    Mutant("positions_count_padding", "models.py",
           "return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)",
           "return torch.arange(attention_mask.shape[1]).expand_as(attention_mask)",
           "left padding shifts the positions", "P10", "models::test_padding_on_either_side_changes_nothing"),
    Mutant("positions_off_by_one", "models.py", "cumsum(dim=1) - 1).clamp", "cumsum(dim=1)).clamp",
           "positions start at 1", "P10", "models::test_position_ids"),
    Mutant("position_ids_missing", "models.py", 'return {"position_ids": position_ids(attention_mask)}', "return {}",
           "a model with absolute positions answers differently under left padding", "P10",
           "models::test_padding_on_either_side_changes_nothing"),
    Mutant("policy_attends_to_padding", "models.py",
           "return policy(input_ids=input_ids, attention_mask=attention_mask,",
           "return policy(input_ids=input_ids, attention_mask=torch.ones_like(input_ids),",
           "the policy reads padding", "P12", "models::test_padding_on_either_side_changes_nothing"),
    Mutant("scalar_attends_to_padding", "models.py",
           "self.trunk(input_ids=input_ids, attention_mask=attention_mask,",
           "self.trunk(input_ids=input_ids, attention_mask=torch.ones_like(input_ids),",
           "reward model and critic read padding", "P12", "models::test_padding_on_either_side_changes_nothing"),

    Mutant("line_starts_are_other_words", "models.py", 'normalizers.Prepend(" ")', "normalizers.NFC()",
           "the first word of an answer is another token than in the web", "P16",
           "survivors::test_a_frequent_word_is_one_token_wherever_it_stands"),
    Mutant("decoding_keeps_the_added_space", "models.py", 'decoders.Strip(" ", 1, 0)', 'decoders.Strip(" ", 0, 0)',
           "every decoded text begins with a space", "P24",
           "models::test_tokenizer_keeps_any_text_and_its_special_ids"),
    Mutant("whole_words_not_looked_up", "models.py", "ignore_merges=True", "ignore_merges=False",
           "frequent words come in pieces", "", "survivors::test_a_frequent_word_is_one_token_wherever_it_stands"),
    Mutant("every_model_stops_at_our_end", "models.py", "return END if special is None else special[2]", "return END",
           "a model from elsewhere never finishes", "P13",
           "survivors::test_a_model_from_elsewhere_stops_at_its_own_end"),

    # ------------------------------------------------------------ pretraining
    Mutant("documents_without_end", "pretrain.py", "(begin, *document, end)", "(begin, *document, begin)",
           "the base never learns to stop", "P9", "pretrain::test_pack_joins_documents_between_begin_and_end"),
    Mutant("lm_loss_unshifted", "pretrain.py", "rows[:, 1:].flatten())", "rows[:, :-1].flatten())",
           "the model learns to repeat the token it reads", "P3",
           "pretrain::test_lm_loss_is_the_mean_over_predicted_tokens"),
    Mutant("lm_loss_is_a_sum", "pretrain.py",
           "rows[:, 1:].flatten())", 'rows[:, 1:].flatten(), reduction="sum")',
           "ptx_coef weighs by the number of tokens", "P33",
           "pretrain::test_lm_loss_is_the_mean_over_predicted_tokens"),
    Mutant("same_order_every_pass", "pretrain.py",
           "np.random.default_rng((seed, epoch)).permutation(count)", "np.random.default_rng(seed).permutation(count)",
           "every pass has the same batches", "", "pretrain::test_every_row_is_seen_once_per_pass"),
    Mutant("no_warmup", "pretrain.py", "    if step < warmup:", "    if False:",
           "the first steps are too large", "", "pretrain::test_cosine_lr_warms_up_and_ends_at_its_share"),
    Mutant("no_cosine", "pretrain.py", "return peak * (min_share + ", "return peak; (min_share + ",
           "the learning rate never falls", "", "pretrain::test_cosine_lr_warms_up_and_ends_at_its_share"),
    Mutant("cosine_to_zero", "pretrain.py", "return peak * (min_share + (1 - min_share) * ", "return peak * (",
           "the learning rate falls to 0 instead of its share", "",
           "pretrain::test_cosine_lr_warms_up_and_ends_at_its_share"),
    Mutant("biases_decay", "pretrain.py", '"weight_decay": 0.0}]', '"weight_decay": weight_decay}]',
           "norms are pulled to 0", "", "pretrain::test_vectors_do_not_decay"),
    Mutant("pretraining_gradients_pile_up", "pretrain.py",
           "optimizer.zero_grad(set_to_none=True)", "pass",
           "every step repeats all gradients before it", "",
           "pretrain::test_a_resumed_run_equals_an_uninterrupted_one"),
    Mutant("pretraining_without_clipping", "pretrain.py",
           "torch.nn.utils.clip_grad_norm_(policy.parameters(), config.clip)", "pass",
           "one bad batch moves the model far", "", "survivors::test_pretraining_steps_are_clipped_together"),
    Mutant("evaluation_weighs_batches", "pretrain.py",
           "lm_loss(policy, batch).item() * len(batch)", "lm_loss(policy, batch).item() * batch_size",
           "a short last batch counts too much", "P36",
           "survivors::test_losses_are_measured_without_dropout_whatever_the_batches"),

    # ------------------------------------------------------------ sampling
    Mutant("prompts_padded_on_the_right", "sampling.py",
           "place = slice(width - len(row), width) if left else slice(0, len(row))", "place = slice(0, len(row))",
           "responses follow padding instead of the prompt", "P11", "sampling::test_padding"),
    Mutant("padding_is_attended", "sampling.py", "mask[index, place] = 1", "mask[index] = 1",
           "padding is read like text", "P12", "sampling::test_padding"),
    Mutant("same_batches_every_epoch", "sampling.py",
           "np.random.default_rng((seed, epoch))", "np.random.default_rng((seed, 0))",
           "the epochs see the same batches", "", "sampling::test_length_batches_hold_every_row_once"),
    Mutant("take_cuts_long_responses", "sampling.py",
           "width = int(response_mask.sum(dim=1).max())", "width = int(response_mask.sum(dim=1).min())",
           "the ends of long responses are not trained on", "P17",
           "sampling::test_take_keeps_rows_and_drops_only_padding"),
    Mutant("sampling_with_dropout", "sampling.py",
           "policy.eval()  # dropout would", "policy.train()  # dropout would",
           "samples come from another policy than the one that is scored", "P22",
           "sampling::test_the_cache_gives_what_full_forwards_give"),
    Mutant("sampling_leaves_the_mode_changed", "sampling.py", "policy.train(was_training)", "pass",
           "training goes on without dropout", "P22", "sampling::test_seeds"),
    Mutant("sampled_pad_is_no_action", "sampling.py",
           "response_mask = torch.arange(responses.shape[1], device=ids.device) < lengths[:, None]",
           "response_mask = responses != PAD",
           "a mask guessed from ids drops a PAD that was sampled", "P8", "sampling::test_rollout_masks_and_log_probs"),
    Mutant("end_is_no_action", "sampling.py", "device=ids.device) < lengths[:, None]",
           "device=ids.device) < (lengths - (responses == END).any(dim=1).long())[:, None]",
           "the policy is never rewarded for stopping", "P8", "sampling::test_rollout_masks_and_log_probs"),
    Mutant("end_at_the_limit_is_unfinished", "sampling.py",
           "finished = responses.gather(1, lengths[:, None] - 1).squeeze(1) == end_token(policy)",
           "finished = lengths < max_new_tokens",
           "a response that stops at the limit is punished as cut off", "P14",
           "sampling::test_end_as_first_and_as_last_allowed_token"),
    Mutant("sampler_without_temperature", "sampling.py", "output.logits[:, -1].float() / temperature",
           "output.logits[:, -1].float()", "samples are drawn at temperature 1", "P19",
           "sampling::test_draws_follow_the_softmax_over_the_whole_vocabulary"),
    Mutant("finished_rows_go_on", "sampling.py", "responses[rows[going], step] = tokens[going]",
           "responses[rows, step] = tokens", "tokens stand after END", "P15",
           "sampling::test_rollout_masks_and_log_probs"),
    Mutant("length_without_end", "sampling.py", "(tokens == end)]] = step + 1", "(tokens == end)]] = max(1, step)",
           "END is masked out", "P8", "sampling::test_rollout_masks_and_log_probs"),
    Mutant("new_tokens_unattended", "sampling.py", "mask = F.pad(mask, (0, 1), value=1)",
           "mask = F.pad(mask, (0, 1), value=0)", "the sampler forgets what it has written", "P12",
           "sampling::test_the_cache_gives_what_full_forwards_give"),
    Mutant("rows_mixed_up", "sampling.py", "= rows[kept], tokens[kept],", "= rows[:left], tokens[kept],",
           "responses go to other prompts once a row has finished", "",
           "sampling::test_the_cache_gives_what_full_forwards_give"),
    Mutant("always_greedy", "sampling.py", "    if greedy:", "    if True:",
           "no exploration: all samples of a prompt are equal", "P21", "sampling::test_rollout_masks_and_log_probs"),
    Mutant("hidden_top_k", "sampling.py", "cumulated = scaled.softmax(dim=-1)",
           "cumulated = scaled.masked_fill(scaled < scaled.topk(50).values[:, -1:], -torch.inf).softmax(dim=-1)",
           "rare tokens are cut off, the KL is wrong", "P18",
           "sampling::test_draws_follow_the_softmax_over_the_whole_vocabulary"),
    Mutant("sampling_without_the_generator", "sampling.py", "1, generator=generator, dtype", "1, dtype",
           "draws do not depend on the seed", "", "sampling::test_seeds"),
    Mutant("sample_many_with_a_constant_seed", "sampling.py", ".manual_seed(seed)", ".manual_seed(0)",
           "all seeds draw the same answers", "", "sampling::test_sample_many_keeps_the_order"),
    Mutant("answers_in_another_order", "sampling.py",
           "for row, answer in zip(rows, rollout", "for row, answer in zip(sorted(rows), rollout",
           "answers are stored under other prompts", "", "sampling::test_sample_many_keeps_the_order"),
    Mutant("log_probs_without_temperature", "sampling.py", "[:, :-1].float() / temperature", "[:, :-1].float()",
           "sampled at one temperature, scored at another", "P19", "sampling::test_rollout_masks_and_log_probs"),
    Mutant("logits_unshifted", "sampling.py", "keep=width + 1)[:, :-1]", "keep=width)",
           "the logits after a token score it", "P3", "sampling::test_rollout_masks_and_log_probs"),
    Mutant("log_probs_of_the_token_before", "sampling.py",
           "sequences[:, prompt_length:, None]", "sequences[:, prompt_length - 1:-1, None]",
           "the wrong tokens are scored", "P3", "sampling::test_rollout_masks_and_log_probs"),
    Mutant("log_probs_unnormalised", "sampling.py", ".squeeze(2) - log_total", ".squeeze(2)",
           "logits are taken for log-probabilities", "P23", "sampling::test_rollout_masks_and_log_probs"),
    Mutant("entropy_with_the_wrong_sign", "sampling.py",
           "return log_probs, log_total - (", "return log_probs, -log_total + (",
           "the entropy curve is upside down", "P38", "sampling::test_rollout_masks_and_log_probs"),

    # ------------------------------------------------------------ supervised fine-tuning
    Mutant("prompt_tokens_learnt", "sft.py", "[IGNORE] * len(prompt_ids) + [*response_ids]",
           "[*prompt_ids] + [*response_ids]", "the model learns to write prompts", "P9",
           "sft::test_labels_keep_end_and_drop_prompt_and_padding"),
    Mutant("end_is_no_target", "sft.py", "+ [*response_ids])", "+ [*response_ids[:-1], IGNORE])",
           "the model never learns to stop", "P9", "sft::test_labels_keep_end_and_drop_prompt_and_padding"),
    Mutant("labels_masked_by_id", "sft.py", "torch.where(mask.bool(), labels, IGNORE)",
           "torch.where((ids != 0) & (ids != 2), labels, IGNORE)",
           "END is dropped together with padding", "P9", "sft::test_labels_keep_end_and_drop_prompt_and_padding"),
    Mutant("padding_learnt", "sft.py", "torch.where(mask.bool(), labels, IGNORE)", "labels",
           "the model learns to write padding", "P9", "sft::test_labels_keep_end_and_drop_prompt_and_padding"),
    Mutant("sft_loss_unshifted", "sft.py", "targets = labels[:, 1:].flatten()", "targets = labels[:, :-1].flatten()",
           "the model learns to repeat the token it reads", "P3", "sft::test_loss_is_the_mean_over_response_tokens"),
    Mutant("sft_mean_over_all_positions", "sft.py", "(targets != IGNORE).sum().clamp(min=1)", "targets.numel()",
           "long prompts make the loss small", "P36", "sft::test_loss_is_the_mean_over_response_tokens"),
    Mutant("sft_micro_batches_averaged", "sft.py", "normaliser=max(1, tokens))", "normaliser=None)",
           "the gradient depends on the micro-batch", "P36", "sft::test_micro_batches_change_nothing"),
    Mutant("sft_mean_of_batch_means", "sft.py", "labels, normaliser=1).item()", "labels).item()",
           "the validation loss depends on the batches", "P36", "sft::test_loss_is_the_mean_over_response_tokens"),
    Mutant("evaluation_with_dropout", "sft.py",
           "    policy.eval()\n    total, count", "    policy.train()\n    total, count",
           "the validation loss is noisy and too high", "P22",
           "survivors::test_losses_are_measured_without_dropout_whatever_the_batches"),
    Mutant("dropout_outside_training", "sft.py", "probability, module.training)", "probability, True)",
           "dropout when sampling and scoring", "P22", "sft::test_dropout_only_in_training_and_gone_afterwards"),
    Mutant("dropout_left_in", "sft.py", "            handle.remove()", "            pass",
           "PPO trains a policy with the dropout of SFT", "P22",
           "sft::test_dropout_only_in_training_and_gone_afterwards"),
    Mutant("sft_without_cosine", "sft.py", "cosine_lr(step, steps, config.lr, config.min_lr_share)", "config.lr",
           "the learning rate never falls", "", "survivors::test_sft_steps_follow_the_cosine_and_are_clipped"),
    Mutant("sft_without_clipping", "sft.py",
           "torch.nn.utils.clip_grad_norm_(policy.parameters(), config.clip)", "pass",
           "one bad batch moves the model far", "", "survivors::test_sft_steps_follow_the_cosine_and_are_clipped"),
    Mutant("sft_gradients_pile_up", "sft.py", "optimizer.zero_grad(set_to_none=True)", "pass",
           "every step repeats all gradients before it", "", "sft::test_training_learns_to_answer_and_to_stop"),
    Mutant("mix_without_coefficient", "sft.py", "(config.pretraining_mix * lm_loss(policy, as_rows(web, device)))",
           "(lm_loss(policy, as_rows(web, device)))", "pretraining text outweighs the demonstrations", "P33",
           "survivors::test_the_gradient_of_a_mixed_step"),
    Mutant("mix_added_on_top", "sft.py", "((1 - config.pretraining_mix) * loss).backward()", "loss.backward()",
           "the mix is not a mean of the two losses", "P33", "survivors::test_the_gradient_of_a_mixed_step"),
    Mutant("mix_in_a_step_of_its_own", "sft.py", "                    web = pretraining[",
           "                    optimizer.step(), optimizer.zero_grad(set_to_none=True)\n"
           "                    web = pretraining[",
           "two steps with shared moments are another algorithm", "P33",
           "survivors::test_the_gradient_of_a_mixed_step"),

    # ------------------------------------------------------------ reward model
    Mutant("end_appended_for_the_reward_model", "reward.py", "return [*prompt_ids, *response_ids]",
           "return [*prompt_ids, *response_ids, 2]", "the reward model reads what nobody sampled", "P15",
           "reward::test_inputs_are_the_ids_as_sampled"),
    Mutant("ranks_upside_down", "reward.py",
           "ranks[:, :, None] < ranks[:, None, :]", "ranks[:, :, None] > ranks[:, None, :]",
           "the worst response is preferred", "P1", "reward::test_kwise_loss_properties"),
    Mutant("ties_are_pairs", "reward.py",
           "ranks[:, :, None] < ranks[:, None, :]", "ranks[:, :, None] <= ranks[:, None, :]",
           "ties pull equal responses together", "P32", "reward::test_kwise_loss_properties"),
    Mutant("empty_places_are_pairs", "reward.py",
           "return better if mask is None else better & mask[:, :, None] & mask[:, None, :]", "return better",
           "responses that do not exist are compared", "P6",
           "reward::test_kwise_loss_of_a_batch_is_the_mean_over_prompts_with_pairs"),
    Mutant("ranking_loss_sign", "reward.py", "F.softplus(scores[:, None, :] - scores[:, :, None])",
           "F.softplus(scores[:, :, None] - scores[:, None, :])", "the loss raises the loser", "P1",
           "reward::test_kwise_loss_properties"),
    Mutant("mean_over_all_pairs", "reward.py", "/ pairs.sum(dim=(1, 2)).clamp(min=1)",
           "/ pairs.sum().clamp(min=1) * len(pairs)", "prompts with fewer pairs count less", "P32",
           "reward::test_kwise_loss_of_a_batch_is_the_mean_over_prompts_with_pairs"),
    Mutant("sum_over_pairs", "reward.py", " / pairs.sum(dim=(1, 2)).clamp(min=1)", "",
           "prompts with more responses count more", "P32", "reward::test_kwise_loss_properties"),
    Mutant("ties_in_the_divisor", "reward.py", "/ pairs.sum(dim=(1, 2)).clamp(min=1)",
           "/ (pairs.shape[1] * (pairs.shape[1] - 1) / 2)", "ties make a prompt count less", "P32",
           "reward::test_kwise_loss_properties"),
    Mutant("empty_places_multiplied", "reward.py", "scores = torch.where(mask, scores, 0.0)", "scores = scores * mask",
           "NaN times 0 is NaN", "P35", "reward::test_kwise_loss_of_a_batch_is_the_mean_over_prompts_with_pairs"),
    Mutant("tied_prompts_counted", "reward.py",
           "prompts = preferred_pairs(ranks, mask).any(dim=2).any(dim=1).sum()", "prompts = torch.tensor(len(scores))",
           "prompts without pairs make the loss small", "P32",
           "reward::test_kwise_loss_of_a_batch_is_the_mean_over_prompts_with_pairs"),
    Mutant("equal_scores_count_as_right", "reward.py",
           "return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()",
           "return (difference >= 0).double().mean().item()",
           "a constant reward model has accuracy 1", "P32", "reward::test_pair_accuracy"),
    Mutant("scores_in_batch_order", "reward.py", "scores[torch.from_numpy(batch)] =",
           "scores[torch.from_numpy(np.sort(batch))] =", "scores belong to other rows", "",
           "reward::test_score_ignores_padding_batches_and_order"),
    Mutant("score_at_the_last_column", "reward.py",
           "score_at_last(model(ids, mask), mask).float().cpu()", "model(ids, mask)[:, -1].float().cpu()",
           "short rows are scored at padding", "P7", "reward::test_score_ignores_padding_batches_and_order"),
    Mutant("bias_with_the_wrong_sign", "reward.py", "model.score.bias.sub_(", "model.score.bias.add_(",
           "demonstrations average twice the mean instead of 0", "P39",
           "reward::test_normalise_centres_demonstrations_and_survives_saving"),
    Mutant("reward_not_normalised", "reward.py", "for _ in range(2):", "for _ in range(0):",
           "scores have an arbitrary offset", "P39",
           "reward::test_normalise_centres_demonstrations_and_survives_saving"),
    Mutant("gain_by_the_sample_deviation", "reward.py", "samples).double().std(correction=0)",
           "samples).double().std(correction=1)", "the gain is off by n / (n - 1)", "P39",
           "reward::test_normalise_centres_demonstrations_and_survives_saving"),
    Mutant("always_shuffled_pairs", "reward.py", "    if config.shuffled_pairs:", "    if True:",
           "every response is read K - 1 times, the model overfits", "P32",
           "survivors::test_every_response_is_read_once_in_an_epoch"),
    Mutant("pairs_the_wrong_way_round", "reward.py", "r.responses[j]], [0, 1])", "r.responses[j]], [1, 0])",
           "shuffled pairs teach the opposite", "P1", "reward::test_shuffled_pairs"),
    Mutant("reward_training_with_dropout", "reward.py", "model.eval()  # the trunk", "model.train()  # the trunk",
           "the two scores of a pair see different models", "P22",
           "survivors::test_reward_training_is_free_of_dropout"),
    Mutant("reward_without_cosine", "reward.py", "cosine_lr(step, steps, config.lr, config.min_lr_share)", "config.lr",
           "the learning rate never falls", "", "survivors::test_reward_steps_follow_the_cosine_and_are_clipped"),
    Mutant("reward_without_clipping", "reward.py",
           "torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)", "pass",
           "one bad batch moves the model far", "", "survivors::test_reward_steps_follow_the_cosine_and_are_clipped"),
    Mutant("reward_gradients_pile_up", "reward.py", "optimizer.zero_grad(set_to_none=True)", "pass",
           "every step repeats all gradients before it", "", "reward::test_resume_equals_an_uninterrupted_run"),
    Mutant("reward_micro_batches_averaged", "reward.py", "places).sum() / len(rankings)", "places).sum() / len(part)",
           "the gradient depends on the micro-batch", "P36", "reward::test_micro_batches_change_nothing"),
    Mutant("ranks_of_other_prompts", "reward.py",
           "ranks[start:start + size].to(device)", "ranks[:len(part)].to(device)",
           "micro-batches after the first learn the wrong ranks", "P36", "reward::test_micro_batches_change_nothing"),

    # ------------------------------------------------------------ the mathematics of PPO
    Mutant("mean_over_padding", "ppo_math.py", "/ mask.sum().clamp(min=1)\n\n\ndef masked_whiten",
           "/ mask.numel()\n\n\ndef masked_whiten", "padding makes every mean small", "P38",
           "ppo::test_masked_statistics"),
    Mutant("mean_multiplies_by_the_mask", "ppo_math.py", "return torch.where(mask, values, 0.0).sum()",
           "return (values * mask).sum()", "NaN times 0 is NaN", "P35", "ppo::test_masked_statistics"),
    Mutant("variance_over_padding", "ppo_math.py", "variance = masked_mean((values - mean) ** 2, mask)",
           "variance = (torch.where(mask, values, 0.0) - mean).square().mean()",
           "advantages do not have standard deviation 1", "P34", "ppo::test_masked_statistics"),
    Mutant("whitening_by_the_variance", "ppo_math.py",
           "(variance + epsilon).rsqrt()", "(variance + epsilon).reciprocal()",
           "divided by the variance instead of its root", "P34", "ppo::test_masked_statistics"),
    Mutant("whitening_without_division", "ppo_math.py", "centred * (variance + epsilon).rsqrt()", "centred",
           "advantages keep their scale", "P34", "ppo::test_masked_statistics"),
    Mutant("whitening_always_shifts", "ppo_math.py",
           "centred = values - mean if shift_mean else values", "centred = values - mean",
           "whitened rewards lose their sign", "P34", "ppo::test_masked_statistics"),
    Mutant("whitening_never_shifts", "ppo_math.py",
           "centred = values - mean if shift_mean else values", "centred = values",
           "advantages keep their mean", "P34", "ppo::test_masked_statistics"),
    Mutant("kl_reversed", "ppo_math.py", "return log_probs - ref_log_probs", "return ref_log_probs - log_probs",
           "the policy is paid for leaving the reference", "P1", "ppo::test_kl_estimators_on_a_distribution"),
    Mutant("k3_linear_term_flipped", "ppo_math.py", "- (ref_log_probs - log_probs)", "+ (ref_log_probs - log_probs)",
           "k3 is biased and can be negative", "P25", "ppo::test_kl_estimators_on_a_distribution"),
    Mutant("k2_without_the_half", "ppo_math.py", "return 0.5 * (log_probs - ref_log_probs) ** 2",
           "return (log_probs - ref_log_probs) ** 2", "k2 has twice the gradient", "P25",
           "ppo::test_kl_estimators_on_a_distribution"),
    Mutant("adaptive_kl_runs_away", "ppo_math.py", "kl / target - 1))", "1 - kl / target))",
           "a KL above the target lowers the penalty", "P1", "ppo::test_adaptive_kl_is_clipped"),
    Mutant("kl_rewarded", "ppo_math.py", "torch.where(mask, -kl_coef * kl_k1(", "torch.where(mask, kl_coef * kl_k1(",
           "the policy is paid for leaving the reference", "P1", "ppo::test_score_lands_on_the_last_action"),
    Mutant("k3_in_the_reward", "ppo_math.py", "-kl_coef * kl_k1(", "-kl_coef * kl_k3(",
           "the penalty no longer has the gradient of the KL", "P25", "ppo::test_score_lands_on_the_last_action"),
    Mutant("kl_at_padding", "ppo_math.py",
           "rewards = torch.where(mask, -kl_coef * kl_k1(log_probs, ref_log_probs), 0.0)",
           "rewards = -kl_coef * kl_k1(log_probs, ref_log_probs)", "padding is rewarded", "P6",
           "ppo::test_score_lands_on_the_last_action"),
    Mutant("score_at_the_last_place", "ppo_math.py",
           "(rows, last_action(mask))", "(rows, torch.full_like(rows, mask.shape[1] - 1))",
           "the score of a short response falls on padding and is lost", "P4",
           "ppo::test_score_lands_on_the_last_action"),
    Mutant("score_after_end", "ppo_math.py",
           "(rows, last_action(mask))", "(rows, (last_action(mask) + 1).clamp(max=mask.shape[1] - 1))",
           "finished and cut-off responses are rewarded at different places", "P4",
           "ppo::test_score_lands_on_the_last_action"),
    Mutant("score_replaces_the_kl", "ppo_math.py", "accumulate=True", "accumulate=False",
           "the last token has no penalty", "P4", "ppo::test_score_lands_on_the_last_action"),
    Mutant("gradient_through_the_reward", "ppo_math.py", "accumulate=True).detach()", "accumulate=True)",
           "the reward becomes a function of the weights", "P25", "ppo::test_score_lands_on_the_last_action"),
    Mutant("gae_reads_padding", "ppo_math.py",
           "    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)\n", "",
           "values at padding leak into the advantages", "P6", "ppo::test_gae_by_hand"),
    Mutant("terminal_value_bootstrapped", "ppo_math.py",
           "torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])",
           "torch.zeros_like(rewards[:, 0]), values[:, -1]",
           "the critic's own guess counts as a reward after the end", "P5", "ppo::test_gae_by_hand"),
    Mutant("next_value_is_this_value", "ppo_math.py", "gamma * next_value - values[:, t]",
           "gamma * values[:, t] - values[:, t]", "values are off by one", "P3", "ppo::test_gae_by_hand"),
    Mutant("lam_discounts_the_value", "ppo_math.py", "gamma * next_value", "lam * next_value",
           "lambda and gamma are swapped", "", "ppo::test_gae_by_hand"),
    Mutant("gae_without_lam", "ppo_math.py", "gamma * lam * running", "gamma * running",
           "lambda has no effect", "", "ppo::test_gae_by_hand"),
    Mutant("returns_without_values", "ppo_math.py", "(advantages + values).detach()", "advantages.detach()",
           "the critic learns the advantage instead of the return", "P37", "ppo::test_gae_by_hand"),
    Mutant("gradient_through_the_advantages", "ppo_math.py",
           "return advantages.detach(), (", "return advantages, (",
           "the policy loss trains the critic", "P25", "survivors::test_advantages_and_returns_carry_no_gradient"),
    Mutant("ratio_reversed", "ppo_math.py", "log_probs - old_log_probs, 0.0)", "old_log_probs - log_probs, 0.0)",
           "good tokens become less likely", "P1", "ppo::test_policy_loss_by_hand"),
    Mutant("ratio_of_padding", "ppo_math.py",
           "log_ratio = torch.where(mask, log_probs - old_log_probs, 0.0)", "log_ratio = log_probs - old_log_probs",
           "NaN at padding reaches the loss", "P35",
           "pitfalls/losses_and_statistics::test_p35_nan_at_padding_in_pure_losses"),
    Mutant("advantages_at_padding", "ppo_math.py",
           "    advantages = torch.where(mask, advantages, 0.0)\n    losses", "    losses",
           "padding is trained on", "P6", "ppo::test_policy_loss_by_hand"),
    Mutant("policy_loss_sign", "ppo_math.py",
           "torch.maximum(-advantages * ratio, -advantages * ratio.clamp(",
           "torch.maximum(advantages * ratio, advantages * ratio.clamp(",
           "good tokens become less likely", "P1", "ppo::test_policy_loss_by_hand"),
    Mutant("policy_loss_takes_the_minimum", "ppo_math.py",
           "losses = torch.maximum(", "losses = torch.minimum(", "the clip rewards large steps", "P1",
           "ppo::test_policy_loss_by_hand"),
    Mutant("policy_loss_unclipped", "ppo_math.py",
           "ratio.clamp(1 - clip_range, 1 + clip_range)", "ratio", "steps have no limit", "",
           "ppo::test_policy_loss_by_hand"),
    Mutant("clip_without_a_lower_end", "ppo_math.py",
           "ratio.clamp(1 - clip_range, 1 + clip_range)", "ratio.clamp(max=1 + clip_range)",
           "bad tokens are pushed down without limit", "",
           "survivors::test_a_bad_token_is_pushed_down_to_the_clip_only"),
    Mutant("clip_without_an_upper_end", "ppo_math.py",
           "ratio.clamp(1 - clip_range, 1 + clip_range)", "ratio.clamp(min=1 - clip_range)",
           "good tokens are pushed up without limit", "", "ppo::test_policy_loss_by_hand"),
    Mutant("policy_loss_over_padding", "ppo_math.py", "losses.sum() / count, statistics", "losses.mean(), statistics",
           "padding makes the step small", "P36", "ppo::test_policy_loss_by_hand"),
    Mutant("clipfrac_over_padding", "ppo_math.py",
           "masked_mean(((ratio - 1).abs() > clip_range).float(), mask).item()",
           "((ratio - 1).abs() > clip_range).float().mean().item()", "the metric looks too healthy", "P38",
           "ppo::test_policy_loss_by_hand"),
    Mutant("largest_ratio_of_padding", "ppo_math.py",
           "torch.where(mask, ratio, 0.0).max().item()", "ratio.max().item()",
           "the metric never falls below 1 where there is padding", "P38",
           "survivors::test_the_largest_ratio_is_one_of_an_action"),
    Mutant("value_loss_sign", "ppo_math.py", "return 0.5 * errors.sum()", "return -0.5 * errors.sum()",
           "the critic runs away from the returns", "P1", "ppo::test_value_loss_by_hand"),
    Mutant("value_clip_around_the_new_value", "ppo_math.py",
           "clipped = old_values + (values - old_values).clamp(", "clipped = values + (old_values - values).clamp(",
           "the clip holds nothing back", "P37", "ppo::test_value_loss_by_hand"),
    Mutant("value_loss_takes_the_minimum", "ppo_math.py",
           "errors = torch.maximum(errors", "errors = torch.minimum(errors",
           "the clip helps the critic to cheat", "P37", "ppo::test_value_loss_by_hand"),
    Mutant("returns_at_padding", "ppo_math.py", "    returns = torch.where(mask, returns, 0.0)\n", "",
           "the critic learns padding", "P6", "survivors::test_returns_at_padding_are_not_learnt"),

    # ------------------------------------------------------------ the PPO loop
    Mutant("values_after_the_token", "ppo.py",
           "values[:, rollout.prompt_length - 1:-1]", "values[:, rollout.prompt_length:]",
           "the critic has already seen the action it judges", "P3", "ppo::test_critic_starts_as_the_reward_model"),
    Mutant("old_log_probs_with_gradient", "ppo.py", "@torch.no_grad()\ndef _in_parts", "def _in_parts",
           "the gradients of new and old policy cancel", "P37",
           "survivors::test_a_minibatch_is_compared_with_the_frozen_policy_and_critic"),
    Mutant("reward_input_without_end", "ppo.py",
           "reward.reward_input(prompt, response)", "reward.reward_input(prompt, response[:-1] or response)",
           "PPO's reward model reads other ids than in its training", "P16",
           "ppo::test_critic_starts_as_the_reward_model"),
    Mutant("reference_without_temperature", "ppo.py",
           "rollout_log_probs(reference, rollout, config.temperature)", "rollout_log_probs(reference, rollout)",
           "the KL compares two temperatures", "P19", "ppo::test_before_any_step_ratio_is_one_and_kl_zero"),
    Mutant("old_policy_without_temperature", "ppo.py",
           "rollout, config.temperature, entropy=True)", "rollout, entropy=True)",
           "the first ratio is not 1", "P19", "ppo::test_before_any_step_ratio_is_one_and_kl_zero"),
    Mutant("new_policy_without_temperature", "ppo.py",
           "             config.temperature)\n            values", "             1.0)\n            values",
           "the first ratio is not 1", "P19", "ppo::test_before_any_step_ratio_is_one_and_kl_zero"),
    Mutant("kl_to_the_policy_itself", "ppo.py", "ref_log_probs = rollout_log_probs(reference,",
           "ref_log_probs = rollout_log_probs(policy,", "the KL is always 0", "P27",
           "survivors::test_the_reference_the_kl_and_the_discounts_go_to_their_places"),
    Mutant("dropout_in_ppo", "ppo.py", "model.eval().zero_grad()  # no", "model.train().zero_grad()  # no",
           "the first ratio is not 1", "P22",
           "survivors::test_the_average_moves_by_its_share_and_every_first_ratio_is_one"),
    Mutant("penalty_for_finished_responses", "ppo.py", "(~rollout.finished).float()", "rollout.finished.float()",
           "the policy is punished for stopping", "P14",
           "survivors::test_the_penalty_for_a_missing_end_is_learnt_from"),
    Mutant("penalty_only_reported", "ppo.py",
           "ppo_math.shaped_rewards(scores, log_probs", "ppo_math.shaped_rewards(raw, log_probs",
           "the penalty for a missing END is logged but not learnt from", "P14",
           "survivors::test_the_penalty_for_a_missing_end_is_learnt_from"),
    Mutant("gamma_and_lam_swapped", "ppo.py", "config.gamma, config.lam)", "config.lam, config.gamma)",
           "lambda discounts the score", "",
           "survivors::test_the_reference_the_kl_and_the_discounts_go_to_their_places"),
    Mutant("no_whitening", "ppo.py", "    if config.whiten_advantages:", "    if False:",
           "the step depends on the scale of the reward", "P34",
           "survivors::test_the_penalty_for_a_missing_end_is_learnt_from"),
    Mutant("returns_from_whitened_advantages", "ppo.py",
           "        advantages = ppo_math.masked_whiten(advantages, mask)",
           "        advantages = ppo_math.masked_whiten(advantages, mask); returns = advantages + values",
           "the critic learns whitened returns", "P37", "survivors::test_the_penalty_for_a_missing_end_is_learnt_from"),
    Mutant("kl_as_a_mean_per_token", "ppo.py", "ref_log_probs), 0.0).sum(dim=1)", "ref_log_probs), 0.0).mean(dim=1)",
           "the logged KL is smaller the longer the responses may be", "P38",
           "survivors::test_the_reference_the_kl_and_the_discounts_go_to_their_places"),
    Mutant("objective_adds_the_kl", "ppo.py", "scores.mean() - kl_coef * kls.mean()",
           "scores.mean() + kl_coef * kls.mean()", "the logged objective rises with the KL", "P38",
           "survivors::test_the_reference_the_kl_and_the_discounts_go_to_their_places"),
    Mutant("negative_kl_unnoticed", "ppo_guards.py", "if kl < -0.1 and kl < -3 * error:", "if False:",
           "a sampler that differs from the scored policy goes unnoticed", "P20", "ppo::test_negative_kl_is_noticed"),
    Mutant("trainable_reference_accepted", "ppo_guards.py",
           "if shared or any(parameter.requires_grad for parameter in reference.parameters()):", "if shared:",
           "nobody notices a reference that can be trained", "P27", "ppo::test_mistaken_arguments"),
    Mutant("shared_reference_accepted", "ppo_guards.py",
           "if shared or any(parameter", "if any(parameter",
           "nobody notices a reference that is the policy", "P27", "ppo::test_mistaken_arguments"),
    Mutant("every_seed_samples_alike", "ppo.py", "        (config.seed, iteration)).generate_state",
           "        (0, iteration)).generate_state", "runs with different seeds are no repetitions", "",
           "survivors::test_seeds_and_iterations_draw_other_prompts_and_other_responses"),
    Mutant("every_iteration_samples_alike", "ppo.py", "        (config.seed, iteration)).generate_state",
           "        (config.seed, 0)).generate_state", "the same random numbers in every iteration", "",
           "survivors::test_seeds_and_iterations_draw_other_prompts_and_other_responses"),
    Mutant("same_prompts_every_iteration", "ppo.py", "rows_at(iteration, len(prompts)", "rows_at(0, len(prompts)",
           "most prompts are never trained on", "",
           "survivors::test_seeds_and_iterations_draw_other_prompts_and_other_responses"),
    Mutant("last_minibatch_dropped", "ppo.py", "-(-size // config.minibatch)", "size // config.minibatch",
           "the rest of the batch is not trained on", "P36",
           "survivors::test_ppo_steps_warm_up_are_clipped_and_leave_no_row_out"),
    Mutant("minibatch_divided_by_the_batch", "ppo.py", "actions = mask[torch.from_numpy(rows)].sum()",
           "actions = mask.sum()", "small minibatches make small steps", "P36",
           "survivors::test_a_minibatch_is_compared_with_the_frozen_policy_and_critic"),
    Mutant("ratio_to_itself", "ppo.py", "ppo_math.policy_loss(log_probs, old,",
           "ppo_math.policy_loss(log_probs, log_probs.detach(),", "the clip never acts", "P37",
           "survivors::test_a_minibatch_is_compared_with_the_frozen_policy_and_critic"),
    Mutant("value_clip_around_itself", "ppo.py", "ppo_math.value_loss(values, old_values,",
           "ppo_math.value_loss(values, values.detach(),", "the value clip never acts", "P37",
           "survivors::test_a_minibatch_is_compared_with_the_frozen_policy_and_critic"),
    Mutant("critic_not_trained", "ppo.py", "(loss + error).backward()", "loss.backward()",
           "the baseline never learns", "",
           "survivors::test_a_minibatch_is_compared_with_the_frozen_policy_and_critic"),
    Mutant("ppo_without_warmup", "ppo.py",
           "share = min(1.0, 0.1 + 0.9 * iteration / max(1, config.warmup_iterations))", "share = 1.0",
           "the first steps are too large", "", "survivors::test_ppo_steps_warm_up_are_clipped_and_leave_no_row_out"),
    Mutant("critic_with_the_policy_rate", "ppo.py", "(config.lr, config.critic_lr)", "(config.lr, config.lr)",
           "the critic learns too slowly", "", "survivors::test_ppo_steps_warm_up_are_clipped_and_leave_no_row_out"),
    Mutant("ppo_without_clipping", "ppo.py", "model.parameters(), config.max_grad_norm)",
           'model.parameters(), float("inf"))', "one bad batch moves the policy far", "",
           "survivors::test_ppo_steps_warm_up_are_clipped_and_leave_no_row_out"),
    Mutant("ppo_gradients_pile_up", "ppo.py", "                optimizer.zero_grad(set_to_none=True)",
           "                pass", "every step repeats all gradients before it", "",
           "ppo::test_determinism_and_resume"),
    Mutant("ptx_without_coefficient", "ppo.py", "(config.ptx_coef * ptx).backward()", "ptx.backward()",
           "the dial has no effect", "P33", "ppo::test_ptx_gradient_is_added_into_the_same_step"),
    Mutant("ptx_sign", "ppo.py", "(config.ptx_coef * ptx).backward()", "(-config.ptx_coef * ptx).backward()",
           "the policy is made to forget", "P1", "ppo::test_ptx_gradient_is_added_into_the_same_step"),
    Mutant("ptx_in_a_step_of_its_own", "ppo.py", "                (config.ptx_coef * ptx).backward()",
           "                [(o.step(), o.zero_grad(set_to_none=True)) for o in optimizers.values()]\n"
           "                (config.ptx_coef * ptx).backward()",
           "two steps with shared moments are another algorithm", "P33",
           "ppo::test_ptx_gradient_is_added_into_the_same_step"),
    Mutant("ptx_reads_the_same_rows", "ppo.py", "pretraining[rows_at(step,", "pretraining[rows_at(0,",
           "the policy remembers four rows of the web", "P33", "survivors::test_ptx_goes_through_the_web"),
    Mutant("ema_never_updated", "ppo.py", "average.lerp_(now, 1 - config.ema_decay)", "pass",
           "the averaged policy is the one before PPO", "",
           "survivors::test_the_average_moves_by_its_share_and_every_first_ratio_is_one"),
    Mutant("ema_follows_at_once", "ppo.py", "average.lerp_(now, 1 - config.ema_decay)",
           "average.lerp_(now, config.ema_decay)", "nothing is averaged", "",
           "survivors::test_the_average_moves_by_its_share_and_every_first_ratio_is_one"),
    Mutant("ema_is_the_policy", "ppo.py", "ema = copy_model(policy, trainable=False)", "ema = policy",
           "nothing is averaged", "", "survivors::test_the_average_moves_by_its_share_and_every_first_ratio_is_one"),
    Mutant("ema_is_sampled_from", "ppo.py",
           "batch, entry = collect(policy, reference,", "batch, entry = collect(ema, reference,",
           "responses come from another policy than the one that is trained", "P2",
           "survivors::test_the_average_moves_by_its_share_and_every_first_ratio_is_one"),

    # ------------------------------------------------------------ who starts from whom
    Mutant("critic_from_the_policy", "pipeline.py",
           "models.copy_model(reward_model),", "models.scalar_from_policy(sft, recipe.seed),",
           "the critic does not start from the reward model", "P30",
           "survivors::test_policy_reference_and_critic_start_from_sft_and_the_reward_model"),
    Mutant("critic_is_the_reward_model", "pipeline.py", "models.copy_model(reward_model),", "reward_model,",
           "training the critic moves the reward", "P27",
           "survivors::test_policy_reference_and_critic_start_from_sft_and_the_reward_model"),
    Mutant("reference_handed_over_trainable", "pipeline.py",
           "models.copy_model(sft, trainable=False)", "models.copy_model(sft)",
           "the reference could be trained", "P27",
           "survivors::test_policy_reference_and_critic_start_from_sft_and_the_reward_model"),
    Mutant("ppo_changes_the_sft_model", "pipeline.py",
           "policy = models.copy_model(start or sft)\n", "policy = start or sft\n",
           "the SFT model is gone after PPO", "P27",
           "survivors::test_policy_reference_and_critic_start_from_sft_and_the_reward_model"),
    Mutant("pipeline_leaves_rewards_raw", "pipeline.py",
           "    history[-1] |= reward.normalise(", "    history[-1] |= {} and reward.normalise(",
           "demonstrations do not average 0", "P39",
           "survivors::test_the_reward_model_that_the_pipeline_hands_over_is_normalised"),

    # ------------------------------------------------------------ best of n
    Mutant("worst_of_n", "best_of_n.py", "return proxy.argmax(dim=1)", "return proxy.argmin(dim=1)",
           "the worst sample is kept", "P1", "best_of_n"),
    Mutant("last_of_the_tied", "best_of_n.py", "return proxy.argmax(dim=1)",
           "return proxy.shape[1] - 1 - proxy.flip(1).argmax(dim=1)",
           "among equals the last is kept, against what is promised", "",
           "survivors::test_the_first_of_equally_good_samples_is_kept"),
    Mutant("drawn_with_replacement", "best_of_n.py",
           "math.comb(m, n) / math.comb(count, n)", "(m / count) ** n",
           "the estimate is biased", "", "best_of_n"),
    Mutant("tied_samples_all_win", "best_of_n.py", "subsets[below]) / (up_to - below)", "subsets[below])",
           "the weights of tied samples sum to more than 1", "", "best_of_n"),
    Mutant("ties_share_nothing", "best_of_n.py",
           "up_to = (proxy[:, None, :] <= proxy[:, :, None]).sum(dim=2)", "up_to = below + 1",
           "tied samples get the weight of the lowest", "", "best_of_n"),
    Mutant("curve_of_the_proxy_only", "best_of_n.py", "(weight * true)", "(weight * proxy)",
           "over-optimisation cannot be seen", "", "best_of_n"),
    Mutant("best_of_n_kl_is_log_n", "best_of_n.py", "return math.log(n) - (n - 1) / n", "return math.log(n)",
           "the KL is a bound that is never reached", "", "best_of_n"),
    Mutant("exact_kl_ignores_lower_levels", "best_of_n.py",
           "best = reached**n - (reached - share)**n", "best = share**n",
           "only ties with itself count", "", "best_of_n"),

    # ------------------------------------------------------------ after InstructGPT: DPO and RLOO
    Mutant("implicit_reward_reversed", "after.py", "return beta * (log_probs - ref_log_probs)",
           "return beta * (ref_log_probs - log_probs)", "DPO prefers what was rejected", "P1",
           "after::test_dpo_loss_by_hand"),
    Mutant("dpo_loss_sign", "after.py", "return F.softplus(-margin)", "return F.softplus(margin)",
           "DPO prefers what was rejected", "P1", "after::test_dpo_loss_by_hand"),
    Mutant("dpo_sum_over_pairs", "after.py", "F.softplus(-margin).mean()", "F.softplus(-margin).sum()",
           "the step grows with the batch", "P36", "after::test_dpo_loss_by_hand"),
    Mutant("dpo_without_ties_or_prompts", "after.py", "loss = kwise_losses(rewards, *where).mean()",
           "loss = kwise_losses(rewards, *where).sum()", "the step grows with the batch", "P32",
           "survivors::test_every_step_of_dpo_is_the_mean_over_prompts_of_the_pairs_of_its_rankings"),
    Mutant("response_log_probs_with_padding", "after.py", "return torch.where(mask.bool(), log_probs, 0.0).sum(dim=1)",
           "return log_probs.sum(dim=1)", "padding is scored", "P36", "after::test_padding_changes_nothing"),
    Mutant("response_log_probs_as_means", "after.py", "torch.where(mask.bool(), log_probs, 0.0).sum(dim=1)",
           "torch.where(mask.bool(), log_probs, 0.0).mean(dim=1)", "long responses count less", "P36",
           "after::test_sequence_log_probs_agree_with_the_exact_world"),
    Mutant("dpo_prompts_padded_on_the_right", "after.py", "prompt_ids, prompt_mask = pad_left(",
           "prompt_ids, prompt_mask = pad_right(", "the first token of a response is scored after padding", "P11",
           "after::test_padding_changes_nothing"),
    Mutant("dpo_against_itself", "after.py", "ref_log_probs = frozen_log_probs(reference, rankings)",
           "ref_log_probs = frozen_log_probs(policy, rankings)", "nothing holds DPO near the reference", "P27",
           "survivors::test_every_step_of_dpo_is_the_mean_over_prompts_of_the_pairs_of_its_rankings"),
    Mutant("dpo_reference_of_other_prompts", "after.py", "(tensor[rows, :log_probs.shape[1]]",
           "(tensor[:len(rows), :log_probs.shape[1]]", "ranks and reference belong to other prompts", "P36",
           "survivors::test_every_step_of_dpo_is_the_mean_over_prompts_of_the_pairs_of_its_rankings"),
    Mutant("dpo_with_dropout", "after.py", "policy.eval()  # no dropout", "policy.train()  # no dropout",
           "the implicit reward is noise", "P22",
           "survivors::test_every_step_of_dpo_is_the_mean_over_prompts_of_the_pairs_of_its_rankings"),
    Mutant("dpo_without_cosine", "after.py", "cosine_lr(step, len(plan), config.lr)", "config.lr",
           "the learning rate never falls", "",
           "survivors::test_every_step_of_dpo_is_the_mean_over_prompts_of_the_pairs_of_its_rankings"),
    Mutant("rloo_baseline_with_its_own_score", "after.py",
           "others = (scores.sum(dim=1, keepdim=True) - scores) / (group - 1)",
           "others = scores.mean(dim=1, keepdim=True)", "the gradient is too small by (group - 1) / group", "",
           "after::test_rloo_advantages_are_the_explicit_leave_one_out_loop"),
    Mutant("rloo_over_the_batch", "after.py", "scores = scores.view(-1, group)", "scores = scores.view(1, -1)",
           "an easy prompt is rewarded for being easy", "",
           "after::test_rloo_advantages_are_the_explicit_leave_one_out_loop"),
    Mutant("rloo_loss_sign", "after.py", "return -(advantages.detach()", "return (advantages.detach()",
           "good responses become rarer", "P1", "after::test_padding_changes_nothing"),
    Mutant("rloo_trains_through_the_advantages", "after.py", "-(advantages.detach() *", "-(advantages *",
           "the loss changes the scores instead of the policy", "P25",
           "survivors::test_rloo_does_not_train_through_its_scores"),
    Mutant("rloo_padding_trained", "after.py", "torch.where(mask, log_probs, 0.0).sum(dim=1)).mean()",
           "log_probs.sum(dim=1)).mean()", "padding is trained on", "P35", "after::test_padding_changes_nothing"),
    Mutant("rloo_paid_for_the_kl", "after.py", "scores - config.kl_coef * kls", "scores + config.kl_coef * kls",
           "the policy is paid for leaving the reference", "P1",
           "survivors::test_every_step_of_rloo_is_reinforce_on_what_it_sampled"),
    Mutant("rloo_policy_without_temperature", "after.py",
           "log_probs = token_log_probs(policy, *where, config.temperature)",
           "log_probs = token_log_probs(policy, *where)", "sampled at one temperature, trained at another", "P19",
           "survivors::test_every_step_of_rloo_is_reinforce_on_what_it_sampled"),
    Mutant("rloo_reference_without_temperature", "after.py", "token_log_probs(reference, *where, config.temperature)",
           "token_log_probs(reference, *where)", "the KL compares two temperatures", "P19",
           "survivors::test_every_step_of_rloo_is_reinforce_on_what_it_sampled"),
    Mutant("rloo_sampled_at_temperature_one", "after.py",
           "asked, config.max_new_tokens, config.temperature, generator",
           "asked, config.max_new_tokens, 1.0, generator",
           "sampled at one temperature, trained at another", "P19",
           "survivors::test_every_step_of_rloo_is_reinforce_on_what_it_sampled"),
    Mutant("rloo_groups_interleaved", "after.py", "for row in rows for _ in range(config.group)]",
           "for _ in range(config.group) for row in rows]", "the baseline comes from other prompts", "",
           "survivors::test_every_step_of_rloo_is_reinforce_on_what_it_sampled"),
    Mutant("rloo_samples_alike_under_every_seed", "after.py", "1_000_003 * config.seed + iteration", "iteration",
           "runs with different seeds are no repetitions", "",
           "survivors::test_every_step_of_rloo_is_reinforce_on_what_it_sampled"),
    Mutant("rloo_same_prompts_every_iteration", "after.py", "rows_at(iteration, len(prompts)",
           "rows_at(0, len(prompts)", "most prompts are never trained on", "",
           "survivors::test_every_step_of_rloo_is_reinforce_on_what_it_sampled"),
    Mutant("rloo_gradients_pile_up", "after.py", "optimizer.zero_grad(set_to_none=True)", "pass",
           "every step repeats all gradients before it", "",
           "survivors::test_every_step_of_rloo_is_reinforce_on_what_it_sampled"),
    Mutant("rloo_without_clipping", "after.py", "clip_grad_norm_(policy.parameters(), 1.0)",
           'clip_grad_norm_(policy.parameters(), float("inf"))', "one bad batch moves the policy far", "",
           "survivors::test_every_step_of_rloo_is_reinforce_on_what_it_sampled"),
    Mutant("dpo_trainable_reference_accepted", "after.py",
           "if shared or any(parameter.requires_grad for parameter in reference.parameters()):", "if shared:",
           "nobody notices a reference that can be trained", "P27", "after::test_mistaken_arguments"),

    # ------------------------------------------------------------ statistics
    Mutant("ties_count_as_wins", "stats.py", "a_wins + ties / 2", "a_wins + ties",
           "two equal models both win", "", "stats::test_win_rate_counts_ties_half"),
    Mutant("wilson_not_centred", "stats.py", "centre = (share + z * z / (2 * n)) / (1 + z * z / n)", "centre = share",
           "the interval is wrong near 0 and 1", "", "stats::test_wilson_by_hand"),
    Mutant("population_deviation", "stats.py", "values.std(ddof=1)", "values.std(ddof=0)",
           "intervals of few values are too narrow", "", "stats::test_mean_interval_by_hand"),
    Mutant("seeds_not_drawn", "stats.py", "rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds",
           "np.full((draws, seeds), 1 / seeds)", "the variation between runs is left out", "",
           "stats::test_cluster_bootstrap_sees_both_sources"),
    Mutant("calibration_errors_cancel", "stats.py", "np.abs(gaps).sum()", "np.abs(gaps.sum())",
           "too bold in one bin makes up for too timid in another", "",
           "survivors::test_calibration_errors_of_opposite_sign_add_up"),
    Mutant("peak_shifted", "stats.py", "math.exp(alpha / beta - 1)", "math.exp(alpha / beta)",
           "the peak of over-optimisation is put e times too far", "", "stats::test_gao_fits_recover_their_curve"),
    # ------------------------------------------------------------ real models
    Mutant("gpt2_positions_stay_trainable", "sharing.py",
           "return [base.get_input_embeddings(), *([base.wpe] if hasattr(base, \"wpe\") else [])]",
           "return [base.get_input_embeddings()]",
           "the reference drifts with the policy's position embeddings", "P28",
           "sharing::test_what_is_frozen_is_everything_below_and_the_tied_output_layer"),
    Mutant("exported_mean_with_the_wrong_sign", "export.py", "= -model.score.bias.item(), 1.0",
           "= model.score.bias.item(), 1.0",
           "elsewhere every score is off by twice the bias", "",
           "export::test_a_classifier_gives_our_scores_whatever_the_padding"),
    Mutant("imported_mean_is_lost", "export.py", "bias - float(getattr(classifier.config, \"mean\", 0.0))", "bias",
           "a reward model that comes back has lost its zero", "",
           "export::test_a_classifier_gives_our_scores_whatever_the_padding"),
    Mutant("activations_are_kept_after_all", "memory.py", "if not torch.is_grad_enabled():", "if True:",
           "the memory that was to be spared is used all the same", "",
           "hub::test_checkpointed_activations_change_no_gradient_and_no_rollout"),
]


# ---------------------------------------------------------------- checks of the list

def node_ids(mutant):
    """["tests/test_ppo.py::test_x", ...] for pytest."""
    ids = []
    for test in mutant.tests.split():
        file, colons, name = test.partition("::")
        folder, slash, file = file.rpartition("/")
        ids.append(f"tests/{folder}{slash}test_{file}.py{colons}{name}")
    return ids


def occurrences(mutant):
    """How often the mutant's old text stands in its file; it must be once."""
    return (ROOT / "rlhf_lite" / mutant.file).read_text(encoding="utf-8").count(mutant.old)


# ---------------------------------------------------------------- running

def copy_of_the_code(folder):
    """The package and the tests in a fresh folder; data, which no mutant changes, is linked."""
    for name in ("rlhf_lite", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", folder)
    (folder / "data").symlink_to(ROOT / "data", target_is_directory=True)


def apply(mutant, folder):
    """Make the mistake in the copy."""
    path = folder / "rlhf_lite" / mutant.file
    before, after = path.read_text(encoding="utf-8").split(mutant.old)  # once, and only once
    path.unlink()  # a hard link: the file itself belongs to all copies
    path.write_text(before + mutant.new + after, encoding="utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def warm_up():
    """Import all that is slow to import and none of the code under test."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", MPLBACKEND="Agg",
                      HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    import hypothesis
    import pytest  # noqa: F401
    import torch
    import torch._dynamo  # noqa: F401
    import tqdm.auto  # noqa: F401
    from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    # The same examples every time, and no search for a smaller one.
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None,
                                         phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
    hypothesis.settings.load_profile("mutants")
    torch.set_num_threads(1)  # and so it stays: conftest asks for more, but the children share the cores
    torch.set_num_threads = lambda count: None
    sys.dont_write_bytecode = False  # the tests are compiled once, by the run without a mutant
    gc.collect()
    gc.freeze()  # pytest collects garbage at its end; what was imported here is none, and looking takes half a second


def start(folder, tests, log, timeout):
    """Run the tests on the code in `folder` in a child process; returns its id. It exits with pytest's status."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        signal.setitimer(signal.ITIMER_PROF, timeout)  # both end the process
        signal.alarm(10 * timeout)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        sys.path[:] = [str(folder)] + [p for p in sys.path if Path(p).resolve() not in (ROOT, ROOT / "tests")]
        import pytest
        status = int(pytest.main(["-x", "-q", "--tb=line", "-p", "no:cacheprovider", *tests]))
        if not Path(sys.modules["rlhf_lite"].__file__).is_relative_to(folder):
            print("The tests imported rlhf_lite from somewhere else than the copy.")
            status = 99
    finally:
        sys.stdout.flush()
        os._exit(status)


def verdict(status, log):
    """(waitpid status, file of the output) -> (word, explanation)."""
    text = Path(log).read_text(encoding="utf-8", errors="replace")
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM):
            return "KILLED", f"by timeout ({TIMEOUT} s)"
        return "BROKEN", f"the process died of signal {os.WTERMSIG(status)}\n{text[-1500:]}"
    code = os.WEXITSTATUS(status)
    if code == 0:
        return "SURVIVED", ""
    failed = re.search(r"^FAILED tests/(\S+)", text, re.MULTILINE)
    if code == 1 and failed:
        return "KILLED", f"by {failed[1]}"
    return "BROKEN", f"pytest ended with {code}; no test failed, the mutant or its tests cannot run\n{text[-1500:]}"


def run(mutants, jobs, folder):
    """Yields (mutant, word, explanation, seconds) in the order of the list."""
    waiting, running, done = list(enumerate(mutants)), {}, {}
    for index, mutant in enumerate(mutants):
        while index not in done:
            while waiting and len(running) < jobs:
                number, following = waiting.pop(0)
                copy, log = folder / f"{number}", folder / f"{number}.log"
                shutil.copytree(folder / "plain", copy, symlinks=True, copy_function=os.link)
                apply(following, copy)
                child = start(copy, node_ids(following), log, TIMEOUT)
                running[child] = number, copy, log, time.perf_counter()
            child, status = os.wait()
            number, copy, log, started = running.pop(child)
            done[number] = *verdict(status, log), time.perf_counter() - started
            shutil.rmtree(copy, ignore_errors=True)
        yield mutant, *done.pop(index)


def main():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description="One-line mistakes in the learning code; do the tests notice?")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these mutants only")
    parser.add_argument("--jobs", type=int, default=cores, help=f"mutants at once (default: {cores}, one per core)")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = parser.parse_args()
    if not hasattr(os, "fork"):
        parser.error("this operating system has no fork; use Linux or macOS")
    unknown = set(options.only or ()) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}; --list shows all")
    mutants = [mutant for mutant in MUTANTS if not options.only or mutant.name in options.only]
    width = max(len(mutant.name) for mutant in mutants)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name:{width}}  {mutant.file:12}  {mutant.pitfall:3}  {mutant.wrong}")
        return 0

    outdated = [mutant for mutant in mutants if occurrences(mutant) != 1]
    for mutant in outdated:
        print(f"{mutant.name}: this text occurs {occurrences(mutant)} times in rlhf_lite/{mutant.file}, not once; "
              f"the list is out of date:\n    {mutant.old}")
    if outdated:
        return 2

    started = time.perf_counter()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name).resolve()
        (folder / "plain").mkdir()
        copy_of_the_code(folder / "plain")
        # The tests must pass without a mutant, or a failure would say nothing. This also compiles them, once.
        tests = list(dict.fromkeys(test for mutant in mutants for test in node_ids(mutant)))
        _, status = os.waitpid(start(folder / "plain", tests, folder / "plain.log", 600), 0)
        if status:
            print("Without any mutant the tests do not pass; nothing can be concluded.\n"
                  + (folder / "plain.log").read_text(encoding="utf-8")[-3000:])
            return 2
        killed = 0
        for mutant, word, explanation, seconds in run(mutants, max(1, options.jobs), folder):
            killed += word == "KILLED"
            if word == "SURVIVED":
                explanation = f"{mutant.wrong}; rlhf_lite/{mutant.file}: {mutant.new.strip()}"
            print(f"{word:8}  {seconds:5.1f} s  {mutant.name:{width}}  {explanation}", flush=True)
    print(f"{len(mutants)} mutants, {killed} killed, {time.perf_counter() - started:.0f} seconds")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
