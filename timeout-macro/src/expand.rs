//! Writes the code that stands in the place of the attribute: one call into the runtime, around the body.
//!
//! It must never contain `unsafe`, `?`, `unwrap` or a bare name from the prelude: the user's crate may forbid the first
//! three and shadow the last.

mod served;

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Expr, FnArg, Meta, Pat, parse_quote};

use crate::args::Args;
use crate::check;
use crate::duration::{NANOS_PER_SECOND, TIME};
use crate::errors::Errors;
use crate::function::{Body, Function, Held, mutable_reference};
use crate::memory::SIZE;
use crate::quantity::Reading;

/// Expands `#[timeout(attribute)] item`.
pub(crate) fn timeout(attribute: &TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = syn::parse2::<Args>(attribute.clone()).map_err(|error| errors.push(error)).unwrap_or_default();
    check::check_args(&args, &mut errors);
    let function = syn::parse2::<Function>(item.clone()).map_err(|error| errors.push(error)).ok();
    if let Some(function) = &function {
        check::check_function(function, &mut errors);
        check::check_together(&args, function, &mut errors);
    }
    match &function {
        Some(function @ Function { body: Some(body), .. }) if errors.is_empty() => {
            let expansion = Expansion { args: &args, function, body, runtime: runtime(&args), call: local("__call") };
            match function.sig.asyncness {
                Some(_) => expansion.behind_the_test_attribute(attribute),
                None => expansion.around_the_body(),
            }
        }
        // The untouched item saves an editor, and the rest of the crate, from a second wave of errors.
        _ => {
            let errors = errors.to_compile_errors();
            quote!(#errors #item)
        }
    }
}

/// What every part of the generated code is made from.
struct Expansion<'a> {
    args: &'a Args,
    function: &'a Function,
    body: &'a Body,
    /// The path of the runtime.
    runtime: TokenStream,
    /// The local that holds the call.
    call: Ident,
}

impl Expansion<'_> {
    /// ```text
    /// Input:  #[timeout(2, grace = limit)]
    ///         pub fn parse(text: &str) -> Doc { body }
    /// Output: #[track_caller]
    ///         pub fn parse(text: &str) -> ::core::result::Result<Doc, ::timeout_runtime::TimedOut> {
    ///             let __call = ::timeout_runtime::Call::new(::core::time::Duration::new(2, 0)).grace(limit);
    ///             ::timeout_runtime::__private::way_home::<Doc>().by(&__call).run::<Doc, _>(move || -> Doc { body })
    ///         }
    /// ```
    ///
    /// The call is a statement of its own, so that what `limit` borrows or locks is free again when the body starts.
    fn around_the_body(&self) -> TokenStream {
        let attrs = self.attributes();
        let signature = self.signature();
        let builder = self.builder();
        let run = match (self.function.never_returns(), &*self.function.held()) {
            (true, _) => self.run_never(),
            (false, []) => self.run(),
            (false, held) => self.run_writing_back(held),
        };
        let run = if self.args.is_served() { self.serve(&run) } else { run };
        let Self { call, function: Function { vis, defaultness, .. }, .. } = self;
        let block = self.block(&quote!(let #call = #builder; #run));
        quote!(#attrs #vis #defaultness #signature #block)
    }

    /// The test attribute must expand first: it makes a plain function of an async one, and then we are asked again.
    ///
    /// ```text
    /// Input:  #[timeout(5)] #[tokio::test] async fn t() { body }
    /// Output: #[tokio::test] #[::timeout_runtime::timeout(5)] async fn t() { body }
    /// ```
    fn behind_the_test_attribute(&self, attribute: &TokenStream) -> TokenStream {
        let Self { runtime, function: Function { attrs, vis, defaultness, sig, .. }, .. } = self;
        let block = self.block(&self.body.statements);
        quote! {
            #(#attrs)*
            #[#runtime::timeout(#attribute)]
            #vis #defaultness #sig #block
        }
    }

    /// The user's own braces around `statements`: a function that ends in ours would count as ours, and be spared the
    /// warning that nobody calls it.
    fn block(&self, statements: &TokenStream) -> TokenStream {
        let Body { braces, inner_attrs, .. } = self.body;
        let mut block = TokenStream::new();
        braces.surround(&mut block, |inside| inside.extend(quote!(#(#inner_attrs)* #statements)));
        block
    }

    /// The call with its options, before the body.
    fn builder(&self) -> TokenStream {
        let runtime = &self.runtime;
        let limit = self.args.limit.as_ref().map(time);
        let value = |name| self.args.option(name).and_then(|option| option.value.expr());
        let grace = value("grace").map(time).map(|grace| quote!(.grace(#grace)));
        let memory = value("memory").map(bytes).map(|memory| quote!(.memory(#memory)));
        let cpu = value("cpu").map(time).map(|cpu| quote!(.cpu(#cpu)));
        let resume = self.args.option("panic").map(|_| quote!(.resume_panics()));
        let cancel = value("cancel").map(|token| quote!(.cancel(#token)));
        quote!(#runtime::Call::new(#limit) #grace #memory #cpu #resume #cancel)
    }

    /// The statements are spliced, not the block: two pairs of braces would warn of `unused_braces` in the user's code.
    fn run(&self) -> TokenStream {
        let Self { body: Body { statements, .. }, .. } = self;
        let (call, result) = (self.way_home(), self.function.result());
        self.outcome(&quote!(#call.run::<#result, _>(move || -> #result { #statements })))
    }

    /// The call in the form that brings the result home. Which errors in it have no serde, only the compiler knows, so the
    /// runtime has it find out.
    fn way_home(&self) -> TokenStream {
        let Self { args, function, runtime, call, .. } = self;
        match function.written_result() {
            Some(_) if args.option("error").is_some() => quote!(#call.errors_as_text()),
            Some(result) => quote!(#runtime::__private::way_home::<#result>().by(&#call)),
            None => quote!(#call),
        }
    }

    /// A body that never returns has no value to bring home and nothing to write back.
    fn run_never(&self) -> TokenStream {
        let Self { call, body: Body { statements, .. }, .. } = self;
        let never = quote!(#call.run_never(move || -> ::core::convert::Infallible { #statements }));
        let outcome = self.outcome(&never);
        // A test keeps its `-> !`.
        if self.function.is_test() { quote!(match #outcome {}) } else { outcome }
    }

    /// ```text
    /// Input:  fn sort(&mut self, mut list: &mut [u8]) -> usize { body }
    /// Output: let __slot0 = ::timeout_runtime::__private::Slot::hold(&mut *self);
    ///         let (__slot1, mut list) = ::timeout_runtime::__private::Slot::lend(&mut *list);
    ///         ::timeout_runtime::__private::way_home::<usize>()
    ///             .by(&__call)
    ///             .run_writing_back::<usize, _, _>((__slot0, (__slot1, ())), move || -> usize { body })
    /// ```
    fn run_writing_back(&self, held: &[Held<'_>]) -> TokenStream {
        let Self { body: Body { statements, .. }, .. } = self;
        let slots: Vec<_> = (0..held.len()).map(|index| local(&format!("__slot{index}"))).collect();
        let holds = held.iter().zip(&slots).map(|(held, slot)| self.hold(held, slot));
        let pairs = slots.iter().rfold(quote!(()), |rest, slot| quote!((#slot, #rest)));
        let (call, result) = (self.way_home(), self.function.result());
        let run = quote!(#call.run_writing_back::<#result, _, _>(#pairs, move || -> #result { #statements }));
        let outcome = self.outcome(&run);
        quote!(#(#holds)* #outcome)
    }

    fn hold(&self, held: &Held<'_>, slot: &Ident) -> TokenStream {
        match held {
            // `self` cannot be shadowed: the body uses it as it is.
            Held::Receiver(receiver) => {
                let receiver = receiver.self_token;
                let held = self.hold_at(receiver.span, &quote!(hold), receiver);
                quote!(let #slot = #held;)
            }
            Held::Named { ident, mutability, attrs, ty } => {
                let held = self.hold_at(ty.span(), &quote!(lend), ident);
                // An argument may be called `_v`; that we use it is none of clippy's business.
                let allow =
                    ident.to_string().starts_with('_').then(|| quote!(#[allow(clippy::used_underscore_binding)]));
                quote! {
                    #allow
                    #(#attrs)*
                    let (#slot, #mutability #ident) = #held;
                }
            }
        }
    }

    /// `Slot::how(&mut *variable)`, all of it at one place: there rustc marks a type without serde.
    fn hold_at(&self, place: Span, how: &TokenStream, variable: impl ToTokens) -> TokenStream {
        let moved = |tokens: TokenStream| {
            tokens.into_iter().map(move |mut token| {
                token.set_span(token.span().located_at(place));
                token
            })
        };
        let path = moved(self.runtime.clone()).chain(moved(quote!(::__private::Slot::#how)));
        let argument = moved(quote!(&mut *)).chain(moved(quote!(#variable)));
        let (path, argument) = (path.collect::<TokenStream>(), argument.collect::<TokenStream>());
        quote_spanned!(Span::mixed_site().located_at(place)=> #path(#argument))
    }

    /// A test harness asks for `()` or for what the test itself returns, so there a failure is a panic; flattened, it is an
    /// error of the test's own.
    fn outcome(&self, run: &TokenStream) -> TokenStream {
        let Self { function, runtime, .. } = self;
        if self.is_flat() {
            let result = function.result();
            return quote!(#runtime::__private::flatten::<#result>(#run));
        }
        if self.function.is_test() { quote!(#runtime::__private::or_fail_test(#run)) } else { run.clone() }
    }

    /// Whether a failure goes into the result as it is written.
    fn is_flat(&self) -> bool {
        self.args.option("flatten").is_some()
    }

    /// The user's attributes and ours.
    fn attributes(&self) -> TokenStream {
        let Self { function, .. } = self;
        let attrs = &function.attrs;
        // `main` must not have it, and there is no caller to tell.
        let tracked = function.has_attr("track_caller") || function.sig.ident == "main";
        let track_caller = (!tracked).then(|| quote!(#[track_caller]));
        // What clippy asks of a function that returns a `Result`, when the user has written none: the attribute's own
        // documentation says what the `Result` is for, and it is `must_use` by itself.
        let written_without = !function.is_test() && !self.is_flat() && !function.returns_a_result();
        let errors_doc = written_without.then(|| quote!(#[allow(clippy::missing_errors_doc)]));
        let must_use =
            function.attrs.iter().any(|attr| matches!(&attr.meta, Meta::Path(path) if path.is_ident("must_use")));
        let must_use = (written_without && must_use).then(|| quote!(#[allow(clippy::double_must_use)]));
        quote!(#(#attrs)* #track_caller #errors_doc #must_use)
    }

    fn signature(&self) -> TokenStream {
        let Self { function, runtime, .. } = self;
        let mut signature = function.sig.clone();
        if self.args.is_served() {
            signature.inputs.iter_mut().enumerate().for_each(|(index, input)| served::name_plainly(index, input));
        } else if !function.never_returns() {
            signature.inputs.iter_mut().for_each(strip_what_is_lent);
        }
        if !function.is_test() && !self.is_flat() {
            let result = if function.never_returns() { quote!(::core::convert::Infallible) } else { function.result() };
            signature.output = parse_quote!(-> ::core::result::Result<#result, #runtime::TimedOut>);
        }
        quote!(#signature)
    }
}

/// The `mut` of `mut v: &mut T`, and what is said of lints, move to the `let` that lends the value to the body.
fn strip_what_is_lent(arg: &mut FnArg) {
    if let FnArg::Typed(arg) = arg
        && mutable_reference(&arg.ty).is_some()
        && let Pat::Ident(pattern) = &mut *arg.pat
    {
        pattern.mutability = None;
        arg.attrs.retain(|attr| !is_of_lints(attr));
    }
}

fn is_of_lints(attr: &Attribute) -> bool {
    ["allow", "expect", "warn", "deny", "forbid"].iter().any(|level| attr.path().is_ident(level))
}

fn runtime(args: &Args) -> TokenStream {
    args.runtime().map_or_else(|| quote!(::timeout_runtime), |path| quote!(#path))
}

/// A literal becomes a `Duration` here and now; anything else is the runtime's to convert.
fn time(expr: &Expr) -> TokenStream {
    match TIME.read(expr) {
        Ok(Reading::Amount(nanos)) => {
            // Both fit: `check_times` has refused what is longer than 300 years.
            let seconds = Literal::u64_unsuffixed(u64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u64::MAX));
            let nanos = Literal::u32_unsuffixed(u32::try_from(nanos % NANOS_PER_SECOND).unwrap_or_default());
            quote!(::core::time::Duration::new(#seconds, #nanos))
        }
        Ok(Reading::Expression) | Err(_) => quote!(#expr),
    }
}

/// A literal becomes a number of bytes here and now.
fn bytes(expr: &Expr) -> TokenStream {
    match SIZE.read(expr) {
        Ok(Reading::Amount(bytes)) => {
            // It fits: `check_memory` has refused what is more than 128 TiB.
            Literal::u64_suffixed(u64::try_from(bytes).unwrap_or(u64::MAX)).to_token_stream()
        }
        Ok(Reading::Expression) | Err(_) => quote!(#expr),
    }
}

/// A name of ours that the user's code can neither see nor shadow.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;

    /// What `#[timeout(args)] item` becomes, as rustfmt would write it.
    fn expand(args: &str, item: &str) -> String {
        let args: TokenStream = args.parse().expect("tokens");
        let item: TokenStream = item.parse().expect("tokens");
        let expansion = super::timeout(&args, &item);
        prettyplease::unparse(&syn::parse2(expansion).expect("the expansion is an item"))
    }

    /// The same for a method, which is no item by itself.
    fn expand_method(args: &str, method: &str) -> String {
        let method = super::timeout(&args.parse().expect("tokens"), &method.parse().expect("tokens"));
        let file = prettyplease::unparse(&syn::parse_quote!(impl S { #method }));
        let lines = file.lines().filter_map(|line| line.strip_prefix("    "));
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    #[test]
    fn a_function_becomes_one_call() {
        let expansion =
            expand("2", "/// Docs.\n#[inline]\npub fn f<T>(a: &str, mut b: T) -> Vec<T> where T: Clone { b(a)?; c }");
        assert_eq!(
            expansion,
            r#"/// Docs.
#[inline]
#[track_caller]
#[allow(clippy::missing_errors_doc)]
pub fn f<T>(
    a: &str,
    mut b: T,
) -> ::core::result::Result<Vec<T>, ::timeout_runtime::TimedOut>
where
    T: Clone,
{
    let __call = ::timeout_runtime::Call::new(::core::time::Duration::new(2, 0));
    ::timeout_runtime::__private::way_home::<Vec<T>>()
        .by(&__call)
        .run::<
            Vec<T>,
            _,
        >(move || -> Vec<T> {
            b(a)?;
            c
        })
}
"#
        );
    }

    #[test]
    fn options_are_set_before_the_body_runs() {
        let expansion =
            expand("cfg.limit(), grace = 250ms, panic = \"resume\", start = fork, crate = my::rt", "fn f() { g() }");
        assert_eq!(
            expansion,
            r#"#[track_caller]
#[allow(clippy::missing_errors_doc)]
fn f() -> ::core::result::Result<(), my::rt::TimedOut> {
    let __call = my::rt::Call::new(cfg.limit())
        .grace(::core::time::Duration::new(0, 250000000))
        .resume_panics();
    __call.run::<(), _>(move || -> () { g() })
}
"#
        );
    }

    #[test]
    fn bounds_are_folded_or_left_for_run_time() {
        let expansion = expand("2, cpu = 0.5, memory = \"1.5KiB 4KiB\"", "fn f() {}");
        assert!(expansion.contains("compile_error"), "{expansion}");
        let expansion = expand("2, cpu = 0.5, memory = \"256MiB\"", "fn f() {}");
        let call = ".memory(268435456u64)\n        .cpu(::core::time::Duration::new(0, 500000000));";
        assert!(expansion.contains(call), "{expansion}");
        let expansion = expand("2, memory = self.bytes, cpu = cfg.cpu()", "fn f() {}");
        assert!(expansion.contains(".memory(self.bytes)\n        .cpu(cfg.cpu());"), "{expansion}");
    }

    #[test]
    fn mutable_arguments_are_held_and_lent() {
        let expansion = expand_method("2", "fn f(&mut self, n: u8, mut list: &mut [u8], _: &mut u8) -> u8 { n }");
        assert_eq!(
            expansion,
            r#"#[track_caller]
#[allow(clippy::missing_errors_doc)]
fn f(
    &mut self,
    n: u8,
    list: &mut [u8],
    _: &mut u8,
) -> ::core::result::Result<u8, ::timeout_runtime::TimedOut> {
    let __call = ::timeout_runtime::Call::new(::core::time::Duration::new(2, 0));
    let __slot0 = ::timeout_runtime::__private::Slot::hold(&mut *self);
    let (__slot1, mut list) = ::timeout_runtime::__private::Slot::lend(&mut *list);
    ::timeout_runtime::__private::way_home::<u8>()
        .by(&__call)
        .run_writing_back::<u8, _, _>((__slot0, (__slot1, ())), move || -> u8 { n })
}
"#
        );
    }

    #[test]
    fn a_function_that_never_returns_holds_nothing() {
        let expansion = expand("2", "#[track_caller] fn f(mut log: &mut dyn Log) -> ! { loop {} }");
        assert_eq!(
            expansion,
            r#"#[track_caller]
#[allow(clippy::missing_errors_doc)]
fn f(
    mut log: &mut dyn Log,
) -> ::core::result::Result<::core::convert::Infallible, ::timeout_runtime::TimedOut> {
    let __call = ::timeout_runtime::Call::new(::core::time::Duration::new(2, 0));
    __call.run_never(move || -> ::core::convert::Infallible { loop {} })
}
"#
        );
    }

    #[test]
    fn a_flattened_function_keeps_its_signature() {
        for attr in ["", "#[test]\n"] {
            let expansion = expand("2, flatten", &format!("{attr}fn f() -> io::Result<u8> {{ g() }}"));
            let tail = "#[track_caller]
fn f() -> io::Result<u8> {
    let __call = ::timeout_runtime::Call::new(::core::time::Duration::new(2, 0));
    ::timeout_runtime::__private::flatten::<
        io::Result<u8>,
    >(
        ::timeout_runtime::__private::way_home::<io::Result<u8>>()
            .by(&__call)
            .run::<io::Result<u8>, _>(move || -> io::Result<u8> { g() }),
    )
}
";
            assert_eq!(expansion, format!("{attr}{tail}"));
        }
    }

    #[test]
    fn an_error_may_cross_as_its_text() {
        let expansion = expand("2, error = text, crate = rt", "fn f(a: &mut u8) -> Res { g() }");
        assert!(expansion.contains(".errors_as_text()"), "{expansion}");
        assert!(!expansion.contains("way_home"), "{expansion}");
    }

    #[test]
    fn a_test_keeps_its_signature() {
        for attr in ["#[test]", "#[::core::prelude::v1::test]", "#[should_panic(expected = \"x\")]"] {
            let expansion = expand("5", &format!("{attr} fn t() {{ g() }}"));
            let tail = "
#[track_caller]
fn t() {
    let __call = ::timeout_runtime::Call::new(::core::time::Duration::new(5, 0));
    ::timeout_runtime::__private::or_fail_test(
        __call.run::<(), _>(move || -> () { g() }),
    )
}
";
            assert_eq!(expansion, format!("{attr}{tail}"));
        }
    }

    #[test]
    fn an_async_test_is_handed_to_its_own_attribute_first() {
        let expansion = expand("5, crate = rt", "#[tokio::test(flavor = \"multi_thread\")] async fn t() { g().await }");
        assert_eq!(
            expansion,
            r#"#[tokio::test(flavor = "multi_thread")]
#[rt::timeout(5, crate = rt)]
async fn t() {
    g().await
}
"#
        );
    }

    #[test]
    fn lints_are_silenced_only_for_what_the_attribute_adds() {
        let result = expand("2", "#[must_use] fn f() -> Result<u8, E> { g() }");
        assert!(!result.contains("allow"), "{result}");
        let value = expand("2", "#[must_use] fn f() -> u8 { g() }");
        assert!(value.contains("#[allow(clippy::missing_errors_doc)]"), "{value}");
        assert!(value.contains("#[allow(clippy::double_must_use)]"), "{value}");
        let unused = expand("2", "fn f(_list: &mut Vec<u8>) {}");
        assert!(unused.contains("#[allow(clippy::used_underscore_binding)]"), "{unused}");
    }

    #[test]
    fn a_served_function_is_a_call_inside_a_closure_that_captures_nothing() {
        let expansion =
            expand_method("2, start = forkserver", "fn f(&self, (a, _): (u8, u8), mut b: u8) -> u8 { self.g(a, b) }");
        assert_eq!(
            expansion,
            r#"#[track_caller]
#[allow(clippy::missing_errors_doc)]
fn f(
    &self,
    __arg1: (u8, u8),
    b: u8,
) -> ::core::result::Result<u8, ::timeout_runtime::TimedOut> {
    let __call = ::timeout_runtime::Call::new(::core::time::Duration::new(2, 0));
    ::timeout_runtime::__private::serve(
        __call,
        (
            ::timeout_runtime::__private::Ref::of(self),
            (
                ::timeout_runtime::__private::Val::of(__arg1),
                (::timeout_runtime::__private::Val::of(b), ()),
            ),
        ),
        |
            __call,
            (
                ::timeout_runtime::__private::Ref(__timeout_self),
                (
                    ::timeout_runtime::__private::Val((a, _)),
                    (::timeout_runtime::__private::Val(mut b), ()),
                ),
            )|
        {
            ::timeout_runtime::__private::way_home::<u8>()
                .by(&__call)
                .run::<u8, _>(move || -> u8 { __timeout_self.g(a, b) })
        },
    )
}
"#
        );
    }

    #[test]
    fn lints_of_a_served_function_are_told_what_the_user_meant() {
        let served = expand(
            "limit, start = forkserver",
            "fn f(limit: u64, #[expect(unused_variables)] a: u8, #[allow(unused_variables)] b: &mut u8, _c: u8) {}",
        );
        let text = served.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in [
            "fn f( limit: u64, a: u8, b: &mut u8, _c: u8, )",
            "#[allow(unused_variables)] let limit = __arg0;",
            "#[expect(unused_variables)] let a = __arg1;",
            "#[allow(unused_variables)] let (__slot0, b) =",
            "#[allow(clippy::used_underscore_binding)] let __arguments =",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn main_is_not_tracked() {
        assert!(!expand("2", "fn main() {}").contains("track_caller"));
    }

    #[test]
    fn every_error_is_reported_beside_the_untouched_item() {
        let expansion = expand("0, grase = 1", "const fn f() -> u8 { 1 }");
        assert_eq!(
            expansion,
            r#"::core::compile_error! {
    "the limit must be more than zero"
}
::core::compile_error! {
    "unknown option `grase`; did you mean `grace`?"
}
::core::compile_error! {
    "a `const fn` cannot start a process; remove `const`"
}
const fn f() -> u8 {
    1
}
"#
        );
    }

    #[test]
    fn the_expansion_needs_nothing_from_the_users_crate() {
        let item = "fn f(a: &mut u8) -> u8 { body }";
        for word in ["unsafe", "?", "unwrap", "Ok", "Err", "Some", "None", "Box"] {
            assert!(!expand("2, grace = 1", item).contains(word), "{word}");
        }
    }
}
