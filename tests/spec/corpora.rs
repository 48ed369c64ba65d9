//! The corpora of the fuzz targets, replayed: what was found once stays found, and what is asserted
//! of any bytes holds of these.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::checks;

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(path)
}

/// What lies in a folder, by name. A folder that is not there has nothing.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn names(folder: &Path) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries(folder).into_iter().map(stem).collect()
}

#[test]
fn every_seed_and_every_finding_holds() {
    for (target, check) in checks::ALL {
        let (mut taken, mut refused) = (0, 0);
        let seeds = entries(&folder("corpus").join(target));
        let findings = entries(&folder("regressions").join(target));
        for path in seeds.iter().chain(&findings) {
            let input = fs::read(path).unwrap();
            // The panic of a check says what is wrong, and the harness prints this before it.
            eprintln!("{}", path.display());
            if check(&input) {
                taken += 1;
            } else {
                refused += 1;
            }
        }
        // A corpus that the code under test takes or refuses as a whole shows half of it at most.
        assert!(taken >= 3 && refused >= 3, "{target}: {taken} taken, {refused} refused");
    }
}

#[test]
fn each_target_has_a_corpus_and_each_corpus_a_target() {
    let targets: BTreeSet<String> =
        checks::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), checks::ALL.len());
    assert_eq!(names(&folder("fuzz_targets")), targets);
    assert_eq!(names(&folder("corpus")), targets);
    assert!(names(&folder("regressions")).is_subset(&targets));
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for target in targets {
        let code = fs::read_to_string(folder("fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(code.contains(&format!("checks::{target}::check(data)")), "{target}");
        let bin = format!("[[bin]]\nname = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n");
        assert!(manifest.contains(&bin), "{target}");
    }
}
