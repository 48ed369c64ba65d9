//! The configurations in `docs/`: every one of them loads.

use std::fs;
use std::path::{Path, PathBuf};

use cambio::config::{self, Surroundings};
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::generate_pem;
use cambio::time::Timestamp;

use super::config_support::{NOW, environment, fill, write};

/// A configuration in a guide.
struct Example {
    /// `keycloak.md:30`, its first line.
    place: String,
    text: String,
}

fn guides() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_guide = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let mut guides: Vec<_> = files.filter(is_guide).collect();
    guides.sort();
    guides
}

fn name(guide: &Path) -> String {
    guide.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The whole configurations of a guide: blocks of YAML that begin with `listen:`. Others are parts of
/// one, or of the identity provider's.
fn examples(guide: &Path) -> Vec<Example> {
    let text = fs::read_to_string(guide).unwrap();
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line != "```yaml" {
            continue;
        }
        let block: Vec<_> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let text = format!("{}\n", block.join("\n"));
        if text.starts_with("listen:") {
            found.push(Example { place: format!("{}:{}", name(guide), number + 2), text });
        }
    }
    found
}

#[test]
fn each_configuration_loads_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let rs256 = generate_pem(Algorithm::RS256).unwrap();
    write(&folder.path().join("signing-rsa.pem"), rs256.as_bytes(), 0o600);
    let file = folder.path().join("cambio.yaml");
    let surroundings =
        Surroundings { file: &file, environment: &environment, now: Timestamp::from_secs(NOW) };
    let examples: Vec<_> = guides().iter().flat_map(|guide| examples(guide)).collect();
    assert!(!examples.is_empty());
    let mut faults = Vec::new();
    for Example { place, text } in &examples {
        match config::parse(text, &surroundings) {
            Ok((config, warnings)) => {
                assert!(!config.trusted_token_issuers.is_empty(), "{place}");
                faults.extend(warnings.iter().map(|warning| format!("{place}: {warning}")));
            }
            Err(found) => faults.extend(found.iter().map(|fault| format!("{place}: {fault}"))),
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// A page for an identity provider says on top whether it was run, and has a configuration.
#[test]
fn each_page_says_whether_it_was_run_and_has_a_configuration() {
    let not_pages = ["README.md", "removal.md"];
    let pages: Vec<_> =
        guides().into_iter().filter(|guide| !not_pages.contains(&name(guide).as_str())).collect();
    assert_eq!(pages.len(), 8);
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let status = text.lines().nth(2).unwrap_or_default();
        let is_status = ["Run in the project's tests: yes, version ", "**Not run by us.** "]
            .iter()
            .any(|begin| status.starts_with(begin));
        assert!(is_status, "{}: {status:?}", page.display());
        assert!(!examples(&page).is_empty(), "{}", page.display());
    }
}

#[test]
fn the_index_names_each_page() {
    let guides = guides();
    let (index, pages): (Vec<_>, Vec<_>) =
        guides.iter().partition(|guide| name(guide) == "README.md");
    let index = fs::read_to_string(index[0]).unwrap();
    for page in pages {
        let link = format!("]({})", name(page));
        assert!(index.contains(&link), "{link}");
    }
}
