-- As the collection's owner has them: keys and types are theirs, and so are the rules.
CREATE TYPE run_status AS ENUM ('in_progress', 'completed', 'failed', 'cancelled');
CREATE TABLE training_runs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), run_name text UNIQUE NOT NULL,
    run_date date DEFAULT current_date, status run_status DEFAULT 'in_progress', base_model text,
    model_type text CHECK (model_type IN ('SD15', 'SDXL', 'other')), training_data_path text,
    num_images int, caption_format text, caption_version text, resolution int, network_dim int,
    network_alpha int, learning_rate numeric(10,8), unet_lr numeric(10,8),
    text_encoder_lr numeric(10,8), train_batch_size int, gradient_accumulation_steps int,
    max_train_epochs int, total_steps int, mixed_precision varchar(10), optimizer_type text,
    lr_scheduler text, lr_scheduler_cycles int, noise_offset real, min_snr_gamma real,
    output_dir text, output_name text, checkpoint_file_size_mb numeric(6,1), platform text,
    gpu_type text, training_duration_hours numeric(5,2), best_epoch int,
    overall_verdict text CHECK (overall_verdict IN ('success', 'failure', 'partial', 'pending')),
    quality_score numeric(3,1) CHECK (quality_score BETWEEN 0 AND 10),
    production_ready boolean DEFAULT false, key_findings text, issues_found text[],
    strengths text[], comparison_notes text, recommended_for text, notes text,
    created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
CREATE TABLE epoch_results (
    id bigserial PRIMARY KEY, training_run_id uuid NOT NULL REFERENCES training_runs,
    epoch_number int NOT NULL, checkpoint_path text, checkpoint_file_size_mb numeric(6,1),
    test_output_dir text, num_test_images int,
    visual_quality_score int CHECK (visual_quality_score BETWEEN 0 AND 10),
    style_match_score int, prompt_adherence_score int, has_wrong_backgrounds boolean,
    has_random_pixels boolean, has_wrong_colors boolean, is_photorealistic boolean,
    is_overtrained boolean, issues_detail text[], strengths_detail text[],
    verdict text CHECK (verdict IN ('best', 'good', 'acceptable', 'skip', 'failure')),
    production_ready boolean, observations text, comparison_to_previous text,
    test_image_paths text[], notes text, created_at timestamptz DEFAULT now(),
    UNIQUE (training_run_id, epoch_number));
INSERT INTO training_runs (run_name, status, notes, quality_score)
    SELECT 'OLD_' || n, 'completed', 'mine ' || n, n % 10 FROM generate_series(1, 300) AS n;
INSERT INTO training_runs (run_name, status, key_findings, quality_score, production_ready)
    VALUES ('SD15_PERFECT', 'completed', 'my own words', 9.5, true);
INSERT INTO epoch_results (training_run_id, epoch_number, observations)
    SELECT id, 7, 'mine' FROM training_runs;
