"""Setting names of transformers, PEFT and LLaMA-Factory, with their equivalents here."""

from __future__ import annotations

SAME = {
    "training.learning_rate": "lr base_lr initial_lr peak_lr",
    "training.num_train_epochs": "epochs num_epochs n_epochs max_epochs train_epochs",
    "training.max_steps": "steps num_steps train_steps num_train_steps max_train_steps max_iters",
    "training.warmup_ratio (a share of the steps)": "warmup warmup_steps num_warmup_steps",
    "training.lr_scheduler_type": "scheduler lr_scheduler scheduler_type",
    "training.weight_decay": "wd",
    "training.max_grad_norm": "grad_clip gradient_clipping clip_grad_norm max_norm",
    "training.gradient_checkpointing": "activation_checkpointing disable_gradient_checkpointing",
    "training.attention": "flash_attn attn_implementation use_flash_attention_2",
    "training.bf16 or training.fp16": "dtype torch_dtype mixed_precision precision pure_bf16 amp",
    "training.save_steps": "save_strategy checkpoint_steps save_interval",
    "training.save_total_limit": "max_checkpoints keep_checkpoints",
    "training.seed": "data_seed random_seed",
    "training.report_to": "logger use_swanlab use_wandb",
    "lora.r": "rank lora_rank lora_r",
    "lora.lora_alpha": "alpha",
    "lora.lora_dropout": "dropout",
    "lora.target_modules": "lora_target lora_target_modules",
    "lora.adapter": "adapter_name_or_path adapters resume_adapter adapter_path adapter_model "
    "create_new_adapter resume_only_model",
    "lora.use_rslora": "rslora use_rs_lora",
    "lora.use_dora": "dora",
    "training.vision_learning_rate": "vit_lr vision_lr vision_tower_lr",
    "training.merger_learning_rate": "aligner_lr merger_lr mm_projector_lr",
    "training.vision_tower": "freeze_vit freeze_vision_tower tune_mm_vision",
    "training.merger": "freeze_aligner freeze_multi_modal_projector tune_mm_mlp",
    "model": "model_name_or_path model_name model_path base_model model_id base",
    "output": "output_dir save_dir out_dir run_name",
    "data.conversations": "dataset_path data_path dataset_dir train_data json_file",
    "data.train": "train_file train_dataset",
    "data.test": "test_file eval_file",
    "data.test_fraction": "test_size",
    "data.val": "eval_dataset val_dataset validation_file val_file",
    "data.val_fraction": "val_size validation_split split_ratio split_dataset_ratio",
    "training.early_stopping_patience": "early_stopping patience early_stop early_stop_interval "
    "early_stopping_steps",
    "data.images": "media_dir image_folder image_dir image_root images_dir",
    "data.max_train or data.max_train_images": "max_samples max_train_samples num_samples",
    "eval.max_eval": "max_eval_samples max_predict_samples eval_samples",
    "eval.max_new_tokens": "max_tokens generation_max_length",
    "view.max_pixels": "image_max_pixels image_resolution",
    "view.min_pixels": "image_min_pixels",
    "view.instruction": "system system_prompt prompt default_system prompt_template",
    "the option --resume": "resume resume_from_checkpoint",
    "data.conversations (data.dataset names the data set that defines the classes)": "dataset",
    "the option --device": "device no_cuda use_cpu local_rank gpu gpus gpu_ids n_gpu device_map",
}
INSTEAD = {
    "a smaller base model; configs/gpu_12gb.toml trains the 2B model on 12 GB": "load_in_4bit "
    "quant_bits double_quantization load_in_8bit quantization_bit quantization_method "
    "bnb_4bit_compute_dtype bnb_4bit_quant_type "
    "qlora use_qlora quantization_config",
    "with validation questions (data.val, data.val_fraction) each checkpoint is validated: "
    "training.save_steps": "eval_strategy evaluation_strategy eval_steps do_eval eval_on_start "
    "per_device_eval_batch_size eval_batch_size compute_metrics eval_accumulation_steps",
    "with validation questions the best checkpoint is used: training.metric_for_best_model": ""
    "load_best_model_at_end greater_is_better best_model save_best",
    "a step has training.images_per_step times training.questions_per_image questions, over all "
    "processes, and is split to fit memory with the same result": "effective_batch_size batch_size "
    "train_batch_size per_device_train_batch_size bs "
    "gradient_accumulation_steps gradient_accumulation auto_find_batch_size packing neat_packing "
    "group_by_length",
    "nothing is cut: all questions are trained on (training.max_tokens_per_pack limits memory)": ""
    "cutoff_len max_length max_seq_length max_seq_len model_max_length",
    "AdamW with PyTorch's defaults": "optim optimizer adam_beta1 adam_beta2 adam_epsilon "
    "use_galore use_badam",
    "plain data parallelism: torchrun --nproc-per-node gpu -m qwen2vl_rs train": "deepspeed fsdp "
    "fsdp_config tensor_parallel_size pipeline_parallel_size tp pp",
    "LoRA on the language model, of a higher rank if need be: lora.r=256; vision tower and merger "
    "can be trained fully: training.vision_tower=full, training.merger=full": "stage "
    "finetuning_type train_type tuner_type full full_finetuning freeze_llm freeze_language_model "
    "tune_mm_llm additional_target modules_to_save",
    "LoRA, rsLoRA or DoRA: lora.r, lora.lora_alpha, lora.use_rslora, lora.use_dora": "lora_bias "
    "init_lora_weights pissa_init bias task_type layers_to_transform",
    "one learning rate for both halves of an adapter: training.learning_rate": "loraplus_lr_ratio "
    "loraplus_lr_embedding lorap_lr_ratio",
    "cross-entropy on the answers": "neftune_noise_alpha label_smoothing_factor label_smoothing",
    "each model's own chat template, with view.instruction": "template chat_template",
    "every step is logged to the run's metrics.jsonl and to training.report_to": "logging_steps "
    "logging_dir logging_strategy plot_loss log_level",
    "a run never overwrites another: give a new folder, output=…": "overwrite_output_dir",
    "the number of workers is chosen automatically": "dataloader_num_workers num_workers "
    "preprocessing_num_workers dataloader_pin_memory",
    "after training: qwen2vl-rs export RUN --merge -o FOLDER": "merge merge_lora merge_adapter "
    "merge_and_unload export_dir",
    "write the folder (qwen2vl-rs export) and upload it": "push_to_hub hub_model_id hub_token",
    "decoding is greedy; eval.answers=closed ranks the candidate answers": "temperature top_p "
    "top_k do_sample num_beams predict_with_generate",
}
NOT_NEEDED = (
    "do_train do_predict remove_unused_columns ddp_timeout ddp_find_unused_parameters "
    "trust_remote_code overwrite_cache enable_liger_kernel use_liger_kernel use_unsloth "
    "use_unsloth_gc use_cache disable_tqdm ddp_backend streaming buffer_size"
)
_PLACES = {name: place for place, names in SAME.items() for name in names.split()}
_REASONS = {name: reason for reason, names in INSTEAD.items() for name in names.split()}


def advice(name: str) -> str | None:
    """Return what to use instead of a setting; None if the name is unknown.

    Args:
        name: name without its section, e.g. ``lr``.
    """
    plain = name.replace("-", "_").lower()
    if plain in _PLACES:
        return f"use {_PLACES[plain]}"
    if plain in _REASONS:
        return f"not supported; instead: {_REASONS[plain]}"
    if plain in NOT_NEEDED.split():
        return "not needed here, omit it"
    return None
