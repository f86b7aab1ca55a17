//! The way from a path to its file, link by link.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf, absolute};

/// Links on a way, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Adds the folders where the way to a file may change: that of each link and of the file itself, or if the way ends
/// before, the last one that there is. They're given without links.
///
/// Not those further up: if one of them is replaced, that shows at the next look without a notice. Whoever watches `/` and
/// `/tmp` is told of what all the world does.
pub(super) fn folders(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    // Fails for an empty path, and where the process's own folder is gone: then there's nothing that could be watched.
    let Ok(mut ahead) = absolute(path) else {
        return;
    };
    let mut folder = PathBuf::from("/");
    let mut links = 0;
    loop {
        let mut steps = ahead.components();
        let Some(step) = steps.next() else {
            return;
        };
        let after = steps.as_path();
        match step {
            Component::RootDir | Component::Prefix(_) => folder = PathBuf::from("/"),
            Component::CurDir => {}
            Component::ParentDir => {
                folder.pop();
            }
            Component::Normal(name) => {
                let next = folder.join(name);
                if let Ok(target) = fs::read_link(&next) {
                    folders.insert(folder.clone());
                    links += 1;
                    if links > MAX_LINKS {
                        return;
                    }
                    ahead = target.join(after);
                    continue;
                }
                if after.as_os_str().is_empty() || !next.is_dir() {
                    folders.insert(folder);
                    return;
                }
                folder = next;
            }
        }
        ahead = after.to_path_buf();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with nothing but links in it, and what's expected, both within a folder without links.
    fn check(links: &[(&str, &str)], path: &str, expected: &[&str]) {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["a/b", "c/d"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (link, target) in links {
            let target = target.replace("ROOT", root.to_str().unwrap());
            symlink(target, root.join(link)).unwrap();
        }
        let mut found = BTreeSet::new();
        folders(&root.join(path), &mut found);
        let expected: BTreeSet<_> = expected.iter().map(|it| root.join(it)).collect();
        assert_eq!(found, expected, "{links:?} {path}");
    }

    #[test]
    fn the_folders_of_links_and_of_the_file_are_on_its_way() {
        check(&[], "a/b/file", &["a/b"]);
        check(&[], "a/../c/./file", &["c"]);
        check(&[("a/file", "b/file")], "a/file", &["a", "a/b"]);
        check(&[("a/file", "../c/d/file")], "a/file", &["a", "c/d"]);
        check(&[("a/file", "ROOT/c/file")], "a/file", &["a", "c"]);
        check(&[("a/x", "../c/d")], "a/x/file", &["a", "c/d"]);
        check(&[("a/x", "../c/d")], "a/x/../file", &["a", "c"]);
        let swapped = [("a/file", "..data/file"), ("a/..data", "b")];
        check(&swapped, "a/file", &["a", "a/b"]);
    }

    #[test]
    fn where_the_way_ends_its_rest_is_waited_for() {
        check(&[], "a/none/deeper/file", &["a"]);
        check(&[("a/x", "../c/none")], "a/x/file", &["a", "c"]);
        check(&[("a/x", "y"), ("a/y", "x")], "a/x/file", &["a"]);
    }

    #[test]
    fn a_path_may_start_where_the_process_is() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        let mut found = BTreeSet::new();
        folders(Path::new("none.toml"), &mut found);
        assert!(found.contains(&here), "{found:?}");
        folders(Path::new(""), &mut found);
    }
}
