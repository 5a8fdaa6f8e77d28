//! A container image without a registry: one static program by two names, in an archive as `ctr images import` takes it (OCI image
//! layout).

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Name of the image: it serves as the sandbox's and as every container's.
pub(super) const NAME: &str = "registry.invalid/pause:1";
/// What a sandbox runs.
const PAUSE: &str = "/pause";
/// The same program by a name that is no sandbox's.
pub(super) const APP: &str = "/app";

/// Compiles `pause.c` and writes the image to `archive`; `dir` is for what lies in between.
pub(super) fn write(dir: &Path, archive: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/containerd/pause.c");
    let program = dir.join("pause");
    let status = Command::new("cc").args(["-O1", "-static", "-o"]).arg(&program).arg(source).status();
    assert!(status.expect("a C compiler, which Rust needs too").success());
    let program = fs::read(program).unwrap();
    let layer = tar(&[(&PAUSE[1..], program.clone(), 0o755), (&APP[1..], program, 0o755)]);
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut blob = |bytes: Vec<u8>| {
        let digest = hex(&Sha256::digest(&bytes));
        let about = json!({ "digest": format!("sha256:{digest}"), "size": bytes.len() });
        blobs.push((format!("blobs/sha256/{digest}"), bytes));
        about
    };
    let of_type = |mut about: Value, media_type: &str| {
        about["mediaType"] = format!("application/vnd.oci.image.{media_type}").into();
        about
    };
    let layer = blob(layer);
    let config = blob(text(&json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": [PAUSE] },
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    })));
    let manifest = blob(text(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": of_type(config, "config.v1+json"), "layers": [of_type(layer, "layer.v1.tar")],
    })));
    let mut manifest = of_type(manifest, "manifest.v1+json");
    manifest["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    manifest["annotations"] = json!({ "io.containerd.image.name": NAME });
    let index = text(&json!({ "schemaVersion": 2, "manifests": [manifest] }));
    let layout = text(&json!({ "imageLayoutVersion": "1.0.0" }));
    let mut files = vec![("oci-layout", layout, 0o644), ("index.json", index, 0o644)];
    files.extend(blobs.iter().map(|(name, bytes)| (name.as_str(), bytes.clone(), 0o644)));
    fs::write(archive, tar(&files)).unwrap();
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tar(files: &[(&str, Vec<u8>, u32)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}
