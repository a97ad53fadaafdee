//! Do two pictures show the same? `cargo run -p verifier --example verdict -- RUN A B`

use std::error::Error;

use verifier::{Device, Verifier};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, a, b] = &arguments[..] else {
        return Err("name a run folder or model file and two pictures".into());
    };
    let verifier = Verifier::open(run, &Device::Cpu)?;
    let verdict = verifier.verify(&verifier.read(a)?, &verifier.read(b)?)?;
    println!("{verdict:?}");
    Ok(())
}
