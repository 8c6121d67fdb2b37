//! A kernel to boot, and the modules that the tests need, in the order in which they can be inserted.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel image and its modules.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    pub(crate) version: String,
    modules: PathBuf,
}

impl Kernel {
    /// A kernel below `CNI_VM_KERNEL`, `TARGET/vm/kernel` (an unpacked package), or `/`: an image `boot/vmlinuz-VERSION`
    /// with modules `lib/modules/VERSION`.
    pub(crate) fn find() -> Option<Self> {
        let given = env::var_os("CNI_VM_KERNEL").map(PathBuf::from);
        let unpacked = env::current_exe()
            .ok()
            .and_then(|path| Some(path.ancestors().nth(3)?.join("vm/kernel")));
        let places = given.into_iter().chain(unpacked).chain(["/".into()]);
        places.filter_map(|place| Self::below(&place)).next()
    }

    fn below(place: &Path) -> Option<Self> {
        let entries = fs::read_dir(place.join("boot")).ok()?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let versions = names.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()));
        let kernels = versions.filter_map(|version| {
            let image = place.join("boot").join(format!("vmlinuz-{version}"));
            let modules = ["lib/modules", "usr/lib/modules"]
                .map(|directory| place.join(directory).join(&version).join("kernel"))
                .into_iter()
                .find(|modules| modules.is_dir())?;
            fs::File::open(&image).ok()?;
            Some(Self {
                image,
                version,
                modules,
            })
        });
        kernels.max_by(|a, b| a.version.cmp(&b.version))
    }

    /// The modules of `wanted` that are not built in, after those that they depend on: names and contents.
    pub(crate) fn modules(&self, wanted: &[&str]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut files = BTreeMap::new();
        index(&self.modules, &mut files)?;
        let mut ordered = Vec::new();
        for name in wanted {
            insert(name, &files, &mut ordered)?;
        }
        Ok(ordered)
    }
}

/// Paths of all modules by name.
fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            index(&entry.path(), files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn insert(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    ordered: &mut Vec<(String, Vec<u8>)>,
) -> io::Result<()> {
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    if ordered.iter().any(|(have, _)| have == name) {
        return Ok(());
    }
    let content = read(path)?;
    for needed in dependencies(&content) {
        insert(&needed, files, ordered)?;
    }
    ordered.push((name.to_owned(), content));
    Ok(())
}

/// A module's content: packages of newer releases have them compressed.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path),
    };
    let output = Command::new(program).arg("-dc").arg(path).output()?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(io::Error::other(format!(
            "cannot unpack {}",
            path.display()
        )))
    }
}

/// `depends=` of the module's information: strings that end in NUL (`include/linux/module.h`, `MODULE_INFO`).
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|part| part == KEY) else {
        return Vec::new();
    };
    let value = &module[start + KEY.len()..];
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(0);
    let value = String::from_utf8_lossy(&value[..end]);
    let names = value.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}
