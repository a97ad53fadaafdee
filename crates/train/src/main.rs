//! The program: trains a Siamese network, judges it, and uses it. See `train --help`.

use std::process::ExitCode;

#[expect(unsafe_code, reason = "the environment, before there is a thread")]
fn main() -> ExitCode {
    // candle puts a backtrace into its errors' text where this is set, and the text is for users.
    // SAFETY: no other thread has been started yet.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // candle's own threads, for element-wise operations, wait by spinning and take the core that
        // the layers' threads need: on two cores a training step takes 15% longer with them.
        // SAFETY: as above.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    train::keep_freed_memory();
    train::run()
}
