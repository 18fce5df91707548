# SPDX-License-Identifier: Apache-2.0
"""Which settings a resumed training takes over, and which it refuses: every flag and key, once.

docs/checkpoints.md explains the tables; `tests/engine/test_resume_rules.py` compares them with the
parser and the configuration tree, so that a new flag cannot be forgotten.
"""

from __future__ import annotations


def names(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


# They are read again at every step, batch, epoch or validation: the new value holds from the point
# where the file was written.
APPLIED = names("""
    lr weight_decay momentum betas adam_eps lr_schedule poly_exp poly_step rescale repoly
    warmup_epochs warmup_lr cooldown_epochs lr_batch lr_by lr_step lr_gamma min_lr warmup_iters
    warmup_ratio max_epoch max_iter clip_grad ema syncbn hanet_lr hanet_wd hanet_poly_exp
    backbone_lr rlx_off_epoch rlx_off_iter rmi_loss img_wt_loss batch_weighting jointwtborder
    strict_bdr_cls wt_bound dt_offset_wt dt_offset_source ocr_alpha ocr_aux_loss_rmi
    supervised_mscale_loss_wt loss_average ohem_threshold ohem_min_kept attention_loss
    cls_wt_loss smoothing crop_size scale_min scale_max pre_size pre_size_of crop_nopad rrotate
    color_aug gblur bblur rand_augment full_crop_training translate_aug_fix augmentation
    img_scale ratio_range cat_max_ratio scale ratio hflip vflip color_jitter aa
    train_interpolation reprob remode recount mixup cutmix cutmix_minmax mixup_prob
    mixup_switch_prob mixup_mode mixup_off_epoch img_size map_crop_val test_scale size_divisor
    crop_pct interpolation do_flip multi_scale_inference extra_scales default_scale average
    slide_crop slide_stride slide_pad bs_window inference_mode scales no_flip sliding_overlap
    sliding_official num_workers bs_val val_freq val_iters save_iters deterministic precision
    compile channels_last grad_ckpt LOSS.BOUNDARY_WEIGHTS LOSS.BOUNDARY_OFFICIAL
    LOSS.CLASS_WEIGHTS LOSS.HANET_WEIGHTS LOSS.IMAGE_MEAN LOSS.BATCH_BORDER_WEIGHTS
    LOSS.HISTOGRAM_OFFICIAL
""")
# They say which images an epoch draws, and how many a step takes: inside an epoch, the rest would
# be a different one, with images twice or not at all.
BETWEEN_EPOCHS = names("""
    bs_trn accum_steps class_uniform_pct class_uniform_tile maxSkip scf coarse_boost_classes
    custom_coarse_dropout_classes custom_coarse_prob mask_out_cityscapes only_coarse
    max_cu_epoch repeated_aug test_mode steps_per_epoch DATASET.CLASS_UNIFORM_BIAS
    DATASET.SKIP_LIST
""")
# The state in the file would not fit, or the training would become a different one.
REFUSED = names("""
    task dataset cv city_mode optimizer amsgrad train_only DATASET.CV_SPLITS
""")
# Refused too, as entries of the file that are compared separately, or as MODEL options in it.
IN_THE_FILE = names("""
    arch seed no_pos_dataset param_rules n_scales mscale_lo_scale align_corners segattn_bot_ch
    aspp_bot_ch mscale_dropout mscale_no3x3 mscale_old_arch attnscale_bn_head drop_path
    head_drop hanet hanet_set hanet_pos pooling dropout pos_rfactor pos_noise aux_loss
    fixed_aspp_pool
""")
# They decide nothing about a resumed training: locations, files of the start, spellings of
# other flags, what an evaluation does.
UNRELATED = names("""
    help resume result_dir snapshot snapshot_pe pretrained allow_partial from_run
    restore_optimizer restore_net start_epoch set set_cityscapes_root fp16 apex amp_opt_level
    sgd adam single_scale device local_rank global_rank dist_timeout dist_url tb_path ckpt date
    exp summary no_progress log_accuracy dump_augmentation_images eval eval_folder
    refine_boundaries efficient_test log_msinf_to_tb no_metrics dump_assets dump_attention
    dump_all_images eval_f1 eval_f1_th eval_f1_missing eval_f1_labels eval_f1_start
    eval_f1_step_size mod_f1 eval_distance_crop dump_topn dump_topn_all dump_for_submission
    dump_for_auto_labelling split split_count split_index dump_images ckpt_path exp_name
    ASSETS_PATH DATASET.CITYSCAPES_DIR DATASET.CITYSCAPES_VIDEO_DIR
    DATASET.CITYSCAPES_CUSTOMCOARSE DATASET.MAPILLARY_DIR DATASET.CAMVID_DIR DATASET.BDD100K_DIR
    DATASET.GTAV_DIR DATASET.KITTI_DIR DATASET.ADE20K_DIR DATASET.PASCAL_CONTEXT_DIR
    DATASET.IMAGENET_DIR DATASET.SYNTHETIC_DIR DATASET.CUSTOM_YAML DATASET.DT_OFFSET_DIR
    DATASET.CENTROID_ROOT
""")
