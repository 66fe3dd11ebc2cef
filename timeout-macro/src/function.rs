//! The item under the attribute, taken apart: attributes, signature, and the body as tokens nobody looks into.
//!
//! Parsing judges nothing beyond "this is a function": which functions can be run in another process is for `check`.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::token::Brace;
use syn::{
    Attribute, FnArg, Pat, PatType, Receiver, ReceiverKind, ReturnType, Signature, Token, Type, Visibility, braced,
};

/// A function or method, or the head of one.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    /// `default fn`, where specialization is on.
    pub(crate) defaultness: Option<Token![default]>,
    pub(crate) sig: Signature,
    /// `None` for a trait method, or a foreign function, that is only declared.
    pub(crate) body: Option<Body>,
}

/// What stands between the braces.
///
/// The statements are passed through as they came: the user's spans stay, and so does syntax that `syn` does not know.
pub(crate) struct Body {
    pub(crate) braces: Brace,
    pub(crate) inner_attrs: Vec<Attribute>,
    pub(crate) statements: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let defaultness = input.parse()?;
        if !starts_a_function(input) {
            return Err(not_a_function(input));
        }
        let sig = input.parse()?;
        let body = if input.parse::<Option<Token![;]>>()?.is_some() {
            None
        } else {
            let content;
            let braces = braced!(content in input);
            let inner_attrs = content.call(Attribute::parse_inner)?;
            Some(Body { braces, inner_attrs, statements: content.parse()? })
        };
        Ok(Self { attrs, vis, defaultness, sig, body })
    }
}

/// Looks for `fn` behind the words that may stand before it.
fn starts_a_function(input: ParseStream) -> bool {
    let ahead = input.fork();
    while ahead.peek(Token![const])
        || ahead.peek(Token![async])
        || ahead.peek(Token![unsafe])
        || ahead.peek(Token![extern])
    {
        if ahead.parse::<TokenTree>().is_err() || ahead.parse::<Option<syn::LitStr>>().is_err() {
            return false;
        }
    }
    // `fn` alone would be a function without a name, and that is rustc's to complain about.
    ahead.peek(Token![fn])
}

fn not_a_function(input: ParseStream) -> syn::Error {
    let ahead = input.fork();
    // `unsafe impl` is an `impl`.
    if ahead.parse::<Option<Token![unsafe]>>().is_err() {
        return input.error("expected a function");
    }
    let way_out = if ahead.peek(Token![impl]) || ahead.peek(Token![trait]) || ahead.peek(Token![mod]) {
        "put it on the functions inside"
    } else {
        "put what may take long into one"
    };
    match Ident::parse_any(&ahead) {
        Ok(word) => {
            syn::Error::new(word.span(), format!("`#[timeout]` belongs on a function, not on `{word}`; {way_out}"))
        }
        Err(_) => input.error(format!("`#[timeout]` belongs on a function; {way_out}")),
    }
}

/// A `&mut` argument whose change is brought home.
pub(crate) enum Held<'a> {
    Receiver(&'a Receiver),
    Named { ident: &'a Ident, mutability: Option<&'a Token![mut]>, attrs: &'a [Attribute], ty: &'a Type },
}

impl Function {
    /// The attribute that makes this a test, if it still stands here: `#[test]`, `#[tokio::test]` and the like.
    ///
    /// One that stood above `#[timeout]` was expanded before us; the built-in `#[test]` is then gone without a trace.
    pub(crate) fn test_attr(&self) -> Option<&Attribute> {
        self.attrs.iter().find(|attr| attr.path().segments.last().is_some_and(|last| last.ident == "test"))
    }

    /// Whether the harness, and not a caller, gets the outcome: the signature then stays as it is written.
    pub(crate) fn is_test(&self) -> bool {
        self.test_attr().is_some() || self.has_attr("should_panic")
    }

    pub(crate) fn has_attr(&self, name: &str) -> bool {
        self.attrs.iter().any(|attr| attr.path().is_ident(name))
    }

    pub(crate) fn never_returns(&self) -> bool {
        matches!(self.written_result().map(peel), Some(Type::Never(_)))
    }

    /// The type behind the arrow.
    pub(crate) fn written_result(&self) -> Option<&Type> {
        match &self.sig.output {
            ReturnType::Default => None,
            ReturnType::Type(_, ty) => Some(ty),
        }
    }

    /// Whether the function returns a `Result` as it is written, as far as the name says.
    pub(crate) fn returns_a_result(&self) -> bool {
        match self.written_result().map(peel) {
            Some(Type::Path(path)) => {
                path.path.segments.last().is_some_and(|last| last.ident.to_string().ends_with("Result"))
            }
            _ => false,
        }
    }

    /// The result type with the place where an error about it belongs: itself, or the name when there is no arrow.
    pub(crate) fn result(&self) -> TokenStream {
        match self.written_result() {
            Some(ty) => ty.to_token_stream(),
            // Located at the name but not of the user's making, or clippy finds a needless `()`.
            None => quote_spanned!(Span::mixed_site().located_at(self.sig.ident.span())=> ()),
        }
    }

    /// The arguments apart from `self`.
    pub(crate) fn typed_args(&self) -> impl Iterator<Item = &PatType> {
        self.sig.inputs.iter().filter_map(|arg| match arg {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        })
    }

    /// The `&mut` arguments in their order, `&mut self` first.
    pub(crate) fn held(&self) -> Vec<Held<'_>> {
        let receiver = self.sig.receiver().filter(|receiver| is_mutable_reference(receiver)).map(Held::Receiver);
        let named = self.typed_args().filter_map(|arg| {
            let pattern = named_by(&arg.pat)?;
            mutable_reference(&arg.ty).map(|ty| Held::Named {
                ident: &pattern.ident,
                mutability: pattern.mutability.as_ref(),
                attrs: &arg.attrs,
                ty: &ty.elem,
            })
        });
        receiver.into_iter().chain(named).collect()
    }
}

/// `&mut self`, or `self: &mut Self`.
fn is_mutable_reference(receiver: &Receiver) -> bool {
    match &receiver.kind {
        ReceiverKind::Reference(_, _, mutability) => mutability.is_some(),
        ReceiverKind::Typed(_, ty) => mutable_reference(ty).is_some(),
        _ => false,
    }
}

/// The type as a `&mut`, if it is one.
pub(crate) fn mutable_reference(ty: &Type) -> Option<&syn::TypeReference> {
    match peel(ty) {
        Type::Reference(reference) if reference.mutability.is_some() => Some(reference),
        _ => None,
    }
}

/// A pattern that only gives a name: `v` or `mut v`.
pub(crate) fn named_by(pattern: &Pat) -> Option<&syn::PatIdent> {
    match pattern {
        Pat::Ident(ident) if ident.by_ref.is_none() && ident.subpat.is_none() => Some(ident),
        Pat::Paren(paren) => named_by(&paren.pat),
        _ => None,
    }
}

/// Looks through parentheses, and through the invisible groups that `macro_rules!` puts around a `$t:ty`.
pub(crate) fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Function, Held};

    fn parse(source: &str) -> syn::Result<Function> {
        syn::parse_str(source)
    }

    fn held(source: &str) -> Vec<String> {
        let function = parse(source).expect("a function");
        let name = |held: &Held<'_>| match held {
            Held::Receiver(receiver) => receiver.self_token.span.source_text().unwrap_or_else(|| "self".into()),
            Held::Named { ident, mutability, .. } => format!("{}{ident}", mutability.map_or("", |_| "mut ")),
        };
        function.held().iter().map(name).collect()
    }

    #[test]
    fn the_mutable_arguments_are_found() {
        assert_eq!(held("fn f(a: &mut u8, b: &u8, mut c: &mut [u8], _: &mut u8, d: u8) {}"), ["a", "mut c"]);
        assert_eq!(held("fn f(&mut self, a: &'a mut T) {}"), ["self", "a"]);
        assert_eq!(held("fn f(self: &mut Self) {}"), ["self"]);
        assert!(held("fn f(&self) {}").is_empty());
        assert!(held("fn f(mut self) {}").is_empty());
        assert!(held("fn f(self: Box<Self>) {}").is_empty());
    }

    #[test]
    fn the_body_is_taken_as_it_comes() {
        let function =
            parse("pub(crate) unsafe fn f() { #![allow(unused)] some syntax of the future !! }").expect("a function");
        let body = function.body.expect("a body");
        assert_eq!(body.inner_attrs.len(), 1);
        assert_eq!(body.statements.to_string(), "some syntax of the future !!");
        assert!(parse("fn f();").expect("a head").body.is_none());
    }

    #[test]
    fn tests_are_told_by_the_attributes_that_are_left() {
        for source in
            ["#[test] fn f() {}", "#[::core::prelude::v1::test] fn f() {}", "#[tokio::test(flavor = \"x\")] fn f() {}"]
        {
            assert!(parse(source).expect("a function").is_test(), "{source}");
        }
        assert!(parse("#[should_panic(expected = \"x\")] fn f() {}").expect("a function").is_test());
        assert!(!parse("#[inline] fn test() {}").expect("a function").is_test());
    }

    #[test]
    fn what_is_not_a_function_is_named_by_its_keyword() {
        for (source, word) in [
            ("pub struct S;", "struct"),
            ("#[derive(Clone)] enum E {}", "enum"),
            ("impl S { fn f() {} }", "impl"),
            ("unsafe impl Send for S {}", "impl"),
            ("extern \"C\" { fn f(); }", "extern"),
            ("const X: u32 = 1;", "const"),
            ("static X: u32 = 1;", "static"),
            ("extern crate core;", "extern"),
        ] {
            let message = parse(source).err().expect("an error").to_string();
            assert!(message.contains(&format!("not on `{word}`")), "{message}");
        }
    }
}
