"""Every module has a test file of its name, or a line here that says which file tests it.

A register: that the tests of a file see the faults of a module is shown by `make mutants`.
"""

from pathlib import Path

import pytest

import qwen2vl_rs

SOURCE, TESTS = Path(qwen2vl_rs.__file__).parent, Path(__file__).parent
MODULES = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if p.name != "__init__.py"}
# what is tested through something else, most of it through the command or the file it serves
TESTED_BY = {
    "__main__.py": "cli/test_cli.py",
    "adapter_settings.py": "test_config.py",
    "checking/findings.py": "checking/test_answers.py",
    "checking/parts.py": "checking/test_answers.py",
    "checking/tables.py": "checking/test_check.py",
    "cli/ask.py": "predict/test_session.py",
    "cli/check.py": "checking/test_check.py",
    "cli/common.py": "cli/test_cli.py",
    "cli/demo.py": "models/test_embedded_base.py",
    "cli/doctor.py": "diagnosis/test_diagnose.py",
    "cli/export.py": "reporting/test_export.py",
    "cli/generate.py": "vqa_generation/test_generate.py",
    "cli/map.py": "maps/test_mapper.py",
    "cli/prepare.py": "cli/test_cli.py",
    "cli/serve.py": "serve/test_app.py",
    "cli/train.py": "training/test_fit.py",
    "datasets/file_forms.py": "datasets/test_known_datasets.py",
    "datasets/foreign_prompts.py": "datasets/test_tables.py",
    "datasets/image_bytes.py": "datasets/test_foreign_records.py",
    "datasets/json_lines.py": "scoring/test_predictions.py",
    "datasets/keyed_rows.py": "datasets/test_floodnet.py",
    "datasets/left_out.py": "datasets/test_rsvqa.py",
    "datasets/record_forms.py": "datasets/test_foreign_records.py",
    "datasets/rsvqa_hr.py": "datasets/test_known_datasets.py",
    "datasets/rsvqa_lr.py": "datasets/test_known_datasets.py",
    "datasets/rsvqa_xben.py": "datasets/test_known_datasets.py",
    "datasets/table_notes.py": "raster/test_lists_of_files.py",
    "datasets/tabular.py": "datasets/test_foreign_records.py",
    "diagnosis/computer.py": "diagnosis/test_diagnose.py",
    "diagnosis/expected.py": "diagnosis/test_diagnose.py",
    "diagnosis/plan.py": "diagnosis/test_diagnose.py",
    "diagnosis/questions.py": "diagnosis/test_diagnose.py",
    "diagnosis/software.py": "diagnosis/test_diagnose.py",
    "engine/inputs.py": "engine/test_decoding.py",
    "engine/forward.py": "engine/test_decoding.py",
    "errors.py": "cli/test_cli.py",
    "foreign_settings.py": "test_settings.py",
    "hub/clients.py": "hub/test_fetch.py",
    "hub/copied.py": "hub/test_fetch.py",
    "hub/limits.py": "hub/test_fetch.py",
    "hub/messages.py": "hub/test_fetch.py",
    "hub/record.py": "hub/test_fetch_data.py",
    "hub/transfer.py": "hub/test_fetch.py",
    "hub/zenodo.py": "hub/test_fetch_data.py",
    "instruction.py": "models/test_prompt.py",
    "known_datasets.py": "datasets/test_known_datasets.py",
    "library/inspection_text.py": "engine/test_inspection.py",
    "library/early.py": "datasets/test_image_paths.py",
    "maps/files.py": "maps/test_mapper.py",
    "maps/values.py": "maps/test_mapper.py",
    "models/adapter_files.py": "models/test_layouts.py",
    "models/adapter_weights.py": "training/test_what_is_trained.py",
    "models/fingerprint.py": "models/test_layouts.py",
    "models/folder.py": "models/test_layouts.py",
    "models/images.py": "engine/test_packing.py",
    "models/location.py": "whole/test_old_files.py",
    "models/model_inputs.py": "engine/test_inspection.py",
    "models/manifest.py": "hub/test_fetch.py",
    "models/qwen_vl.py": "models/test_family.py",
    "models/shapes.py": "models/test_layouts.py",
    "models/template.py": "models/test_prompt.py",
    "predict/endpoint_bodies.py": "predict/test_endpoint_client.py",
    "predict/endpoint_replies.py": "predict/test_readers_inputs.py",
    "predict/job.py": "predict/test_keys.py",
    "predict/local.py": "predict/test_evaluation.py",
    "predict/predictor.py": "predict/test_up_to_date.py",
    "predict/settings.py": "predict/test_up_to_date.py",
    "predict/side_by_side.py": "training/test_fit.py",
    "questions/area.py": "questions/test_normal_forms.py",
    "questions/clean.py": "questions/test_normal_forms.py",
    "questions/comparison.py": "questions/test_normal_forms.py",
    "questions/count.py": "questions/test_normal_forms.py",
    "questions/latex.py": "questions/test_lists.py",
    "questions/numbers.py": "questions/test_normal_forms.py",
    "questions/presence.py": "questions/test_normal_forms.py",
    "questions/registry.py": "questions/test_question_type.py",
    "questions/rural_urban.py": "questions/test_normal_forms.py",
    "questions/wording.py": "questions/test_grammar.py",
    "questions/yes_no.py": "questions/test_normal_forms.py",
    "raster/opening.py": "raster/test_rgb.py",
    "raster/orientation.py": "raster/test_scenes.py",
    "raster/position_errors.py": "raster/test_image_errors.py",
    "raster/sidecars.py": "raster/test_nodata.py",
    "raster/to_bytes.py": "raster/test_rgb.py",
    "raster/writing.py": "raster/test_scenes.py",
    "reporting/diagnostics.py": "reporting/test_page.py",
    "reporting/map_page.py": "maps/test_mapper.py",
    "reporting/page_model.py": "reporting/test_page.py",
    "reporting/provenance.py": "reporting/test_page.py",
    "reporting/scores.py": "reporting/test_page.py",
    "reporting/text.py": "system/test_terminal.py",
    "scoring/tables.py": "scoring/test_tables_of_scores.py",
    "scoring/joining.py": "scoring/test_foreign_predictions.py",
    "serve/api_errors.py": "serve/test_requests.py",
    "serve/bodies.py": "serve/test_serve_siege.py",
    "serve/conversation.py": "serve/test_chat.py",
    "serve/decoders.py": "serve/test_serve_siege.py",
    "serve/image_decoding.py": "serve/test_serve_siege.py",
    "serve/guard.py": "serve/test_requests.py",
    "serve/limits.py": "serve/test_worker.py",
    "serve/logs.py": "whole/test_limits_of_pages.py",
    "serve/metrics.py": "serve/test_requests.py",
    "serve/openapi.py": "serve/test_requests.py",
    "serve/pace.py": "serve/test_serve_siege.py",
    "serve/run.py": "serve/test_app.py",
    "serve/turns.py": "serve/test_serve_siege.py",
    "config_file.py": "test_config.py",
    "setting_errors.py": "test_config.py",
    "synthetic/canvas.py": "synthetic/test_render.py",
    "synthetic/features.py": "synthetic/test_render.py",
    "synthetic/objects.py": "synthetic/test_render.py",
    "synthetic/palette.py": "synthetic/test_render.py",
    "synthetic/rural.py": "synthetic/test_layout.py",
    "synthetic/textures.py": "synthetic/test_render.py",
    "synthetic/urban.py": "synthetic/test_layout.py",
    "library/data.py": "hub/test_fetch_data.py",
    "library/machine.py": "diagnosis/test_diagnose.py",
    "system/pauses.py": "hub/test_fetch_data.py",
    "system/disk.py": "system/test_files.py",
    "system/install.py": "cli/test_first_hour.py",
    "system/locks.py": "test_run.py",
    "system/named_files.py": "system/test_oserrors.py",
    "datasets/parts.py": "training/test_validation.py",
    "library/results.py": "library/test_scores.py",
    "system/notebook.py": "system/test_notebook_html.py",
    "system/toml.py": "test_config.py",
    "version.py": "cli/test_cli.py",
    "reporting/validation.py": "training/test_validation.py",
    "training/encoding.py": "training/test_processes.py",
    "training/steps.py": "training/test_trainer.py",
    "training/circumstances.py": "system/test_power.py",
    "training/trackers.py": "training/test_interrupt.py",
    "types.py": "datasets/test_tables.py",
    "vqa_generation/lifecycle.py": "vqa_generation/test_generate_osm.py",
    "vqa_generation/misplaced.py": "vqa_generation/test_vectors.py",
    "vqa_generation/relations.py": "vqa_generation/test_generate_osm.py",
    "vqa_generation/summary.py": "vqa_generation/test_generate.py",
}


def own(module: str) -> Path:
    """The test file of a module's name, in the folder of its package."""
    path = Path(module)
    return TESTS / path.parent / f"test_{path.name}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_has_tests(module):
    if module in TESTED_BY:
        assert not own(module).exists(), "it has a file of its own now"
        assert (TESTS / TESTED_BY[module]).is_file()
    else:
        assert own(module).is_file(), f"no {own(module).relative_to(TESTS)}"


def test_nothing_is_said_of_modules_that_are_gone():
    assert set(TESTED_BY) <= MODULES
