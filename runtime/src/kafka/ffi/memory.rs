//! How the C library hands out memory, of which librdkafka takes a piece or two for each record.

/// Arenas of the allocator. By default it makes up to eight for each core, one for almost every thread of librdkafka,
/// and what one thread frees in another's arena stays there: measured with two workers, 63-71 MB at the peak, and with
/// two arenas 56-60 MB at the same CPU time.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Has the threads share their memory. To be called before there are any.
pub(in crate::kafka) fn share_arenas() {
    // SAFETY: it sets a number that the allocator looks at when it's next asked for an arena.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}
