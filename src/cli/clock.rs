//! `countersign clock accept -c DIR`: somebody has looked at the clock and says that it is right.

use std::path::Path;

use anyhow::{Context, bail};

use crate::config::Directory;
use crate::store::Store;
use crate::time::Timestamp;

/// Leaves word in the state; the running bastion takes it within a second, a stopped one at its start.
pub async fn accept(dir: &Path) -> anyhow::Result<()> {
    let Ok(directory) = Directory::load(dir) else { bail!("{} is not in order: countersign check -c {0}", dir.display()) };
    let path = directory.config.state.join("countersign.db");
    if !path.is_file() {
        bail!("{} is not there: has this bastion ever run?", path.display());
    }
    let store = Store::open(&path).await?;
    let by = operator();
    let now = Timestamp::now();
    store.leave_clock_accept(&by, now).await.context("the state cannot be written")?;
    store.close().await;
    eprintln!("countersign: accepted: it is {now} here");
    Ok(())
}

/// Who sits at this machine, as far as it knows.
pub fn operator() -> String {
    std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "root".into())
}
