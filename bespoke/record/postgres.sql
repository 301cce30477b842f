-- Closed to all but their owner: Supabase shows a new table to whoever has the project's public key.
CREATE TABLE IF NOT EXISTS training_runs (
    id bigserial PRIMARY KEY, run_name text NOT NULL UNIQUE, run_date timestamptz, status text,
    base_model text, model_type text, training_data_path text, num_images integer,
    caption_format text, caption_version text, resolution text, network_dim integer,
    network_alpha double precision, learning_rate double precision, unet_lr double precision,
    text_encoder_lr double precision, train_batch_size integer,
    gradient_accumulation_steps integer, max_train_epochs integer, total_steps integer,
    mixed_precision text, optimizer_type text, lr_scheduler text, lr_scheduler_cycles integer,
    noise_offset double precision, min_snr_gamma double precision, output_dir text,
    output_name text, checkpoint_file_size_mb double precision, platform text, gpu_type text,
    training_duration_hours double precision, best_epoch integer, overall_verdict text,
    quality_score double precision, production_ready boolean, key_findings text,
    issues_found text[], strengths text[], comparison_notes text, recommended_for text, notes text,
    created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
ALTER TABLE training_runs ENABLE ROW LEVEL SECURITY;

CREATE TABLE IF NOT EXISTS epoch_results (
    id bigserial PRIMARY KEY, training_run_id bigint NOT NULL REFERENCES training_runs,
    epoch_number integer NOT NULL, checkpoint_path text, checkpoint_file_size_mb double precision,
    test_output_dir text, num_test_images integer, visual_quality_score integer,
    style_match_score integer, prompt_adherence_score integer, has_wrong_backgrounds boolean,
    has_random_pixels boolean, has_wrong_colors boolean, is_photorealistic boolean,
    is_overtrained boolean, issues_detail text[], strengths_detail text[], verdict text,
    production_ready boolean, observations text, comparison_to_previous text,
    test_image_paths text[], notes text, created_at timestamptz DEFAULT now(),
    UNIQUE (training_run_id, epoch_number));
ALTER TABLE epoch_results ENABLE ROW LEVEL SECURITY;
