//! The `gru` command; everything is in [`gru_train_host::cli`], where tests can call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let code = gru_train_host::cli::run(
        std::env::args_os(),
        &mut std::io::stdout().lock(),
        &mut std::io::stderr(),
    );
    ExitCode::from(code)
}
