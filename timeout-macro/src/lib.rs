//! x
mod args;
mod check;
mod duration;
mod errors;
mod expand;
mod function;

use proc_macro::TokenStream;

/// y
#[proc_macro_attribute]
pub fn timeout(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::timeout(&attribute.into(), item.into()).into()
}
