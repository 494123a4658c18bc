//! A small tree of files to try a check on.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder that is removed when dropped.
pub struct Tree(PathBuf);

impl Tree {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ping-architecture-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
