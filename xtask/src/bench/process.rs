//! What a running process has used so far, from Linux's `/proc`.

use std::fs;

use anyhow::{Context, Error};

/// CPU time of all threads of a process, in seconds, user and system together. Its own only: not that of children.
pub fn cpu_seconds(pid: u32) -> Result<f64, Error> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    let ticks = cpu_ticks(&text).with_context(|| format!("{path} has an unknown form"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU time of the threads with these names (the first 15 bytes of each, as Linux keeps them), in seconds. The thread that
/// a process starts with is named as its program.
pub fn cpu_seconds_of_threads(pid: u32, names: &[&str]) -> Result<f64, Error> {
    let folder = format!("/proc/{pid}/task");
    let mut nanos = 0;
    for thread in fs::read_dir(&folder).with_context(|| format!("can't read {folder}"))? {
        let thread = thread?.path();
        // One that ended meanwhile.
        let Ok(name) = fs::read_to_string(thread.join("comm")) else {
            continue;
        };
        if names.contains(&name.trim_end()) {
            let path = thread.join("schedstat");
            let text = fs::read_to_string(&path);
            let text = text.with_context(|| format!("can't read {}", path.display()))?;
            let spent = text.split(' ').next().and_then(|it| it.parse().ok());
            let spent: u64 =
                spent.with_context(|| format!("{} has an unknown form", path.display()))?;
            nanos += spent;
        }
    }
    Ok(nanos as f64 / 1e9)
}

/// The most memory that a process ever had resident, in bytes.
pub fn peak_rss_bytes(pid: u32) -> Result<u64, Error> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    high_water_mark(&text).with_context(|| format!("{path} has no VmHWM"))
}

/// Fields 14 and 15, `utime` and `stime` in proc(5). The second field, the name, may hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// `VmHWM:     12345 kB`
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_figures() {
        let pid = std::process::id();
        let peak = peak_rss_bytes(pid).unwrap();
        assert!((1 << 20..1 << 32).contains(&peak), "{peak}");
        assert!(cpu_seconds(pid).unwrap() < 1e6);
        let busy = std::thread::Builder::new().name("busy".to_string());
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let busy = busy.spawn(move || {
            let sum: u64 = (0..10_000_000u64).map(std::hint::black_box).sum();
            std::hint::black_box(sum);
            let _ = wait.recv();
        });
        let spent = || cpu_seconds_of_threads(pid, &["busy"]).unwrap();
        while spent() == 0.0 {
            std::thread::yield_now();
        }
        assert!(spent() < 1e6);
        assert_eq!(cpu_seconds_of_threads(pid, &["nobody"]).unwrap(), 0.0);
        drop(done);
        busy.unwrap().join().unwrap();
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 3 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("42 (a"), None);
    }
}
