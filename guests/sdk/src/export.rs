//! What [`export!`](crate::export!) puts in a module.
//!
//! # The text of a panic
//! A guest that panics traps, and the contract has no place for a text. So the text is left in the guest's memory, where
//! whoever holds the memory after the trap (a core dump, say) finds it by its mark:
//!
//! | bytes | content |
//! |---|---|
//! | 16 | `WEIR-PANIC-TEXT` and a zero byte |
//! | 4 | length of the text in bytes, little-endian, at most 1024 |
//! | 1024 | the text in UTF-8: place and message, cut at a character's edge |
//!
//! The mark is written when the panic happens, and stands nowhere else in memory before or after.

use std::cell::UnsafeCell;
use std::fmt::Write;
use std::hint::black_box;
use std::panic::PanicHookInfo;

pub use crate::runner::Runner;

use crate::Transform;
use crate::bindings::Description;

/// Exports a transform from its crate, as the guest that Weir runs: `weir_guest::export!(MyTransform);`. Its name, version
/// and summary are the Cargo package's name, version and description.
#[macro_export]
macro_rules! export {
    ($transform:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::{Batch, Description, Guest, Needs, Output, Setup};
            use $crate::export::{Runner, describe, keep_panic_text};

            ::std::thread_local! {
                static RUNNER: ::std::cell::RefCell<Option<Runner<$transform>>> =
                    const { ::std::cell::RefCell::new(None) };
            }

            struct Exported;

            impl Guest for Exported {
                fn describe() -> Description {
                    keep_panic_text();
                    describe::<$transform>(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                        env!("CARGO_PKG_DESCRIPTION"),
                    )
                }

                fn init(setup: Setup) -> Result<Needs, String> {
                    keep_panic_text();
                    let runner = Runner::new(setup)?;
                    let needs = runner.needs().into();
                    RUNNER.set(Some(runner));
                    Ok(needs)
                }

                fn transform(batch: Batch) -> Result<Output, String> {
                    RUNNER.with_borrow_mut(|runner| match runner {
                        Some(runner) => Ok(runner.run(&batch)),
                        None => Err("transform was called before init".to_owned()),
                    })
                }
            }

    $crate::bindings::export_guest!(Exported with_types_in $crate::bindings);
        };
    };
}

/// What a transform is.
pub fn describe<T: Transform>(name: &str, version: &str, summary: &str) -> Description {
    Description {
        name: name.to_owned(),
        version: version.to_owned(),
        summary: summary.to_owned(),
        config_schema: T::SCHEMA.to_owned(),
    }
}

/// Has the text of a panic kept in memory.
pub fn keep_panic_text() {
    std::panic::set_hook(Box::new(|info| PANIC_TEXT.keep(info)));
}

const MARK_LEN: usize = 16;
const TEXT_LEN: usize = 1024;

/// The mark with all bits inverted, so that the mark itself is in memory only once it has been made.
const MARK_INVERTED: [u8; MARK_LEN] = {
    let mut mark = *b"WEIR-PANIC-TEXT\0";
    let mut index = 0;
    while index < MARK_LEN {
        mark[index] = !mark[index];
        index += 1;
    }
    mark
};

struct PanicText(UnsafeCell<[u8; MARK_LEN + 4 + TEXT_LEN]>);

// SAFETY: a guest has one thread; in native tests, which may have several, the hook is never installed.
unsafe impl Sync for PanicText {}

static PANIC_TEXT: PanicText = PanicText(UnsafeCell::new([0; MARK_LEN + 4 + TEXT_LEN]));

impl PanicText {
    fn keep(&self, info: &PanicHookInfo<'_>) {
        // SAFETY: one thread, and a panic inside the hook aborts without running it again.
        let memory = unsafe { &mut *self.0.get() };
        let (head, text) = memory.split_at_mut(MARK_LEN + 4);
        let mut text = Text { text, len: 0 };
        // Cutting the text short is no failure.
        let _ = write!(text, "{info}");
        let len = text.len as u32;
        for (to, from) in head.iter_mut().zip(black_box(&MARK_INVERTED)) {
            *to = !black_box(*from);
        }
        head[MARK_LEN..].copy_from_slice(&len.to_le_bytes());
        // Nothing in the program reads it.
        black_box(memory);
    }
}

/// Takes as much text as there's room for.
struct Text<'a> {
    text: &'a mut [u8],
    len: usize,
}

impl Write for Text<'_> {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let len = more.floor_char_boundary(self.text.len() - self.len);
        self.text[self.len..self.len + len].copy_from_slice(&more.as_bytes()[..len]);
        self.len += len;
        match len == more.len() {
            true => Ok(()),
            false => Err(std::fmt::Error),
        }
    }
}
