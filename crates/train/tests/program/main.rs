//! The program as a user runs it: the built binary, its status, what it prints, what it leaves.

mod believed;
mod calibrating;
mod device;
#[cfg(unix)]
mod endurance;
mod exporting;
mod few_shot;
mod freezing;
mod heads;
mod in_batch;
#[cfg(unix)]
mod interruption;
mod judging;
mod learning;
mod picture_folder;
mod pictures;
#[cfg(feature = "pretrained")]
mod pretrained;
mod preview;
mod refit;
mod refused_data;
mod refused_pictures;
mod refused_run_folders;
mod refused_settings;
mod repetition;
mod run_folder;
mod scratch;
#[cfg(unix)]
mod serving;
mod voice;
