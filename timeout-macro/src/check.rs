//! Every rule of the attribute, one small function each; none stops the next, so all errors show at once.
//!
//! A rule sees parsed data and reports; it changes nothing, and what passes here must expand.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{
    AssocType, Generics, ParenthesizedGenericArguments, ReceiverKind, Type, TypeFnPtr, TypeImplTrait, TypeParamBound,
    TypeReference,
};

use crate::args::{Args, FORKSERVER, OPTIONS, Support, Takes, Value, spec};
use crate::duration::TIME;
use crate::errors::Errors;
use crate::function::{Function, mutable_reference, named_by, peel};
use crate::memory::SIZE;

/// What people write before they know that the limit has no name.
const NAMES_FOR_THE_LIMIT: [&str; 6] = ["limit", "timeout", "duration", "seconds", "secs", "time"];

/// Reports everything that is wrong between the parentheses.
pub(crate) fn check_args(args: &Args, errors: &mut Errors) {
    check_readable(args, errors);
    check_limit_is_given(args, errors);
    check_limit_stands_alone(args, errors);
    check_limit_has_no_name(args, errors);
    check_times(args, errors);
    check_memory(args, errors);
    check_options_are_known(args, errors);
    check_options_are_supported(args, errors);
    check_options_are_given_once(args, errors);
    check_options_have_their_value(args, errors);
    check_flags_have_no_value(args, errors);
    check_panic(args, errors);
    check_error(args, errors);
    check_start(args, errors);
    check_crate(args, errors);
}

/// Reports everything about the function that cannot be done in another process.
pub(crate) fn check_function(function: &Function, errors: &mut Errors) {
    check_body(function, errors);
    check_const(function, errors);
    check_extern(function, errors);
    check_async(function, errors);
    check_result(function, errors);
    // Nothing is written back from a function that never returns, so nothing can be lost.
    if !function.never_returns() {
        check_mutable_receiver(function, errors);
        check_mutable_args(function, errors);
        check_mutable_bounds(&function.sig.generics, errors);
    }
}

/// Reports every option that the function cannot have.
pub(crate) fn check_together(args: &Args, function: &Function, errors: &mut Errors) {
    check_result_is_a_result(args, function, errors);
    if args.is_served() {
        check_arguments_travel(function, errors);
    }
}

/// What has no serde whatever else it is. The compiler finds the rest, where the argument is named.
fn check_arguments_travel(function: &Function, errors: &mut Errors) {
    for arg in function.typed_args() {
        let mut fixed = Fixed(Vec::new());
        fixed.visit_type(&arg.ty);
        let name = source(&arg.pat);
        for (ty, what) in fixed.0 {
            let way_out = "take a value that has serde, or write `start = fork`";
            errors.at(ty, format!("`{name}` cannot travel to the fork server, as it holds {what}; {way_out}"));
        }
    }
}

/// The parts of a type that mean something in one process only.
struct Fixed<'a>(Vec<(&'a dyn ToTokens, &'static str)>);

impl<'a> Visit<'a> for Fixed<'a> {
    fn visit_type_trait_object(&mut self, node: &'a syn::TypeTraitObject) {
        self.0.push((node, "a `dyn` object"));
    }

    fn visit_type_ptr(&mut self, node: &'a syn::TypePtr) {
        self.0.push((node, "a raw pointer"));
    }

    fn visit_type_fn_ptr(&mut self, node: &'a TypeFnPtr) {
        self.0.push((node, "a function pointer"));
    }

    fn visit_type_impl_trait(&mut self, node: &'a TypeImplTrait) {
        if matches!(bound_name(node).as_deref(), Some("Fn" | "FnMut" | "FnOnce")) {
            self.0.push((node, "a closure"));
        }
    }
}

fn check_readable(args: &Args, errors: &mut Errors) {
    for error in &args.unreadable {
        errors.push(error.clone());
    }
}

fn check_limit_is_given(args: &Args, errors: &mut Errors) {
    let named = args.options.iter().any(|option| NAMES_FOR_THE_LIMIT.iter().any(|name| option.name == name));
    if args.limit.is_some() || named || !args.strays.is_empty() || !args.unreadable.is_empty() {
        return;
    }
    let place = args.options.first().map_or_else(Span::call_site, |option| option.name.span());
    let message = "the limit is missing; write it first, as in `#[timeout(2)]` for 2 seconds";
    errors.push(syn::Error::new(place, message));
}

fn check_limit_stands_alone(args: &Args, errors: &mut Errors) {
    for stray in &args.strays {
        let message = match &args.limit {
            Some(_) => "the limit is given already; options are written `name = value`",
            None => "the limit must stand first; move it before the options",
        };
        errors.at(stray, message);
    }
}

fn check_limit_has_no_name(args: &Args, errors: &mut Errors) {
    for option in args.options.iter().filter(|option| NAMES_FOR_THE_LIMIT.iter().any(|name| option.name == name)) {
        let value = option.value.expr().map_or_else(|| "2".to_owned(), source);
        errors.at(&option.name, format!("the limit stands first and without a name; write `#[timeout({value})]`"));
    }
}

fn check_times(args: &Args, errors: &mut Errors) {
    let named = |name, what| {
        let options = args.options.iter().filter(move |option| option.name == name);
        options.filter_map(move |option| Some((what, option.value.expr()?)))
    };
    let limit = args.limit.iter().map(|limit| ("limit", limit));
    let times = limit.chain(named("grace", "grace")).chain(named("cpu", "CPU time"));
    for (name, time) in times {
        if let Err(fault) = TIME.read(time) {
            errors.at(fault.token, TIME.message(&fault.kind, name));
        }
    }
}

fn check_memory(args: &Args, errors: &mut Errors) {
    for option in args.options.iter().filter(|option| option.name == "memory") {
        if let Some(Err(fault)) = option.value.expr().map(|memory| SIZE.read(memory)) {
            errors.at(fault.token, SIZE.message(&fault.kind, "memory"));
        }
    }
}

fn check_options_are_known(args: &Args, errors: &mut Errors) {
    for option in &args.options {
        let name = option.name.to_string();
        if spec(&name).is_some() || NAMES_FOR_THE_LIMIT.contains(&&*name) {
            continue;
        }
        let near = OPTIONS
            .iter()
            .map(|spec| (strsim::damerau_levenshtein(spec.name, &name), spec.name))
            .min()
            .filter(|&(distance, meant)| distance <= 2 && distance < meant.len());
        let message = match near {
            Some((_, meant)) => format!("unknown option `{name}`; did you mean `{meant}`?"),
            None => {
                let known: Vec<_> = OPTIONS.iter().filter(|spec| spec.support == Support::Yes).collect();
                let known: Vec<_> = known.iter().map(|spec| format!("`{}`", spec.name)).collect();
                format!("unknown option `{name}`; the options are {}", known.join(", "))
            }
        };
        errors.at(&option.name, message);
    }
}

fn check_options_are_supported(args: &Args, errors: &mut Errors) {
    for option in &args.options {
        if let Some(Support::Later(way_out)) = spec(&option.name.to_string()).map(|spec| spec.support) {
            errors.at(&option.name, format!("option `{}` is not supported yet; {way_out}", option.name));
        }
    }
}

fn check_options_are_given_once(args: &Args, errors: &mut Errors) {
    for (position, option) in args.options.iter().enumerate() {
        if args.options[..position].iter().any(|earlier| earlier.name == option.name) {
            errors.at(&option.name, format!("option `{}` is given twice; remove one", option.name));
        }
    }
}

fn check_options_have_their_value(args: &Args, errors: &mut Errors) {
    for option in &args.options {
        let supported = spec(&option.name.to_string()).filter(|spec| spec.support == Support::Yes);
        let Some(spec) = supported else { continue };
        if spec.takes != Takes::Nothing && matches!(option.value, Value::None) {
            errors.at(&option.name, format!("option `{}` needs a value, as in `{}`", spec.name, spec.example));
        }
    }
}

fn check_flags_have_no_value(args: &Args, errors: &mut Errors) {
    for option in &args.options {
        let flag = spec(&option.name.to_string())
            .is_some_and(|spec| spec.takes == Takes::Nothing && spec.support == Support::Yes);
        if flag && !matches!(option.value, Value::None) {
            errors.at(option, format!("option `{0}` takes no value; write `{0}` alone", option.name));
        }
    }
}

fn check_panic(args: &Args, errors: &mut Errors) {
    for option in args.options.iter().filter(|option| option.name == "panic") {
        let resume = option.value.text().is_some_and(|text| text.value() == "resume");
        if !resume && !matches!(option.value, Value::None) {
            errors.at(option, "`panic` can only be `\"resume\"`; leave it out to get a panic as a `TimedOut`");
        }
    }
}

fn check_error(args: &Args, errors: &mut Errors) {
    for option in args.options.iter().filter(|option| option.name == "error") {
        let text = option.value.word().is_some_and(|word| word == "text");
        if !text && !matches!(option.value, Value::None) {
            errors
                .at(option, "`error` can only be `text`; leave it out for an error that has serde or `PortableError`");
        }
    }
}

fn check_start(args: &Args, errors: &mut Errors) {
    for option in args.options.iter().filter(|option| option.name == "start") {
        match (&option.value, option.value.word()) {
            (Value::None, _) => {}
            (_, Some(word)) if word == "fork" || word == FORKSERVER => {}
            _ => errors.at(
                option,
                "`start` can only be `fork` or `forkserver`; write `start = forkserver`, or leave it out for `fork`",
            ),
        }
    }
}

fn check_crate(args: &Args, errors: &mut Errors) {
    for option in args.options.iter().filter(|option| option.name == "crate") {
        if let Some(text) = option.value.text() {
            errors.at(text, format!("`crate` takes a path, not a string; write `crate = {}`", text.value()));
        } else if option.value.expr().is_some() {
            errors.at(option, "`crate` takes a path; write `crate = my_timeout`");
        }
    }
}

fn check_body(function: &Function, errors: &mut Errors) {
    if function.body.is_none() {
        errors.at(&function.sig.ident, "there is no body to run; put `#[timeout]` on a function that has one");
    }
}

fn check_const(function: &Function, errors: &mut Errors) {
    if let Some(token) = &function.sig.constness {
        errors.at(token, "a `const fn` cannot start a process; remove `const`");
    }
}

fn check_extern(function: &Function, errors: &mut Errors) {
    if let Some(abi) = &function.sig.abi {
        let message =
            "an `extern` function cannot return a `Result`; put `#[timeout]` on a plain `fn` and call that here";
        errors.at(abi, message);
    }
}

/// Async tests are let through: their own attribute makes them plain functions before we look again.
fn check_async(function: &Function, errors: &mut Errors) {
    if let Some(token) = &function.sig.asyncness
        && function.test_attr().is_none()
    {
        errors.at(token, "`async fn` is not supported yet; write a plain `fn` and call it inside `spawn_blocking`");
    }
}

fn check_result(function: &Function, errors: &mut Errors) {
    let Some(result) = function.written_result() else { return };
    let found = Inside::of(result);
    for reference in found.references {
        let owned = owned_form(&reference.elem);
        errors.at(reference, format!("a borrowed result cannot come back from another process; return {owned}"));
    }
    for opaque in found.opaque {
        let message = match bound_name(opaque).as_deref() {
            Some("Iterator") => "`impl Iterator` is not supported yet; collect into a `Vec`",
            Some("Future") => "`impl Future` is not supported yet; write a plain `fn` that does the work",
            _ => "an `impl` type cannot come back from another process; name the type",
        };
        errors.at(opaque, message);
    }
}

/// What cannot be a `Result` under any name; the compiler finds the rest, such as an alias, in words of ours.
fn check_result_is_a_result(args: &Args, function: &Function, errors: &mut Errors) {
    for name in ["flatten", "error"] {
        let Some(option) = args.option(name) else { continue };
        match function.written_result() {
            None => {
                errors
                    .at(&option.name, format!("`{name}` needs a function that returns a `Result`; leave it out here"));
            }
            Some(result) if is_no_result(result) => {
                errors.at(result, format!("`{name}` needs a `Result` here; return one, or leave `{name}` out"));
            }
            Some(_) => {}
        }
    }
}

fn is_no_result(result: &Type) -> bool {
    const NAMES: [&str; 20] = [
        "bool", "char", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32",
        "f64", "String", "Vec", "Option", "Box",
    ];
    match peel(result) {
        Type::Never(_) | Type::Tuple(_) | Type::Array(_) => true,
        Type::Path(path) => path.path.segments.last().is_some_and(|last| NAMES.iter().any(|name| last.ident == name)),
        _ => false,
    }
}

fn check_mutable_receiver(function: &Function, errors: &mut Errors) {
    let Some(ReceiverKind::Typed(_, ty)) = function.sig.receiver().map(|receiver| &receiver.kind) else { return };
    for reference in hidden_mutable(ty) {
        errors.at(reference, "a `&mut` inside another type cannot be written back; take `&mut self`");
    }
}

fn check_mutable_args(function: &Function, errors: &mut Errors) {
    for arg in function.typed_args() {
        for reference in hidden_mutable(&arg.ty) {
            errors.at(reference, "a `&mut` inside another type cannot be written back; make it an argument of its own");
        }
        let Some(reference) = mutable_reference(&arg.ty) else { continue };
        if let Type::TraitObject(object) = peel(&reference.elem) {
            errors.at(object, "a `&mut dyn` argument cannot be written back; take a `&mut` of a type that has serde");
        }
        let unnamed = named_by(&arg.pat).is_none() && !matches!(*arg.pat, syn::Pat::Wild(_));
        if unnamed {
            errors.at(
                &arg.pat,
                "a `&mut` argument behind a pattern cannot be written back; name it and match in the body",
            );
        }
    }
}

/// Finds `I: Iterator<Item = &mut T>`; a bound such as `T: From<&mut U>` holds no borrow and is fine.
fn check_mutable_bounds(generics: &Generics, errors: &mut Errors) {
    struct Bounds<'a>(Vec<&'a TypeReference>);
    impl<'a> Visit<'a> for Bounds<'a> {
        fn visit_assoc_type(&mut self, node: &'a AssocType) {
            self.0.extend(Inside::of(&node.ty).references.iter().filter(|reference| reference.mutability.is_some()));
        }
    }
    let mut bounds = Bounds(Vec::new());
    bounds.visit_generics(generics);
    for reference in bounds.0 {
        errors.at(reference, "a `&mut` inside another type cannot be written back; make it an argument of its own");
    }
}

/// The `&mut`s in a type, except the type itself.
fn hidden_mutable(ty: &Type) -> Vec<&TypeReference> {
    let inner = mutable_reference(ty).map_or(ty, |reference| &reference.elem);
    let mut references = Inside::of(inner).references;
    references.retain(|reference| reference.mutability.is_some());
    references
}

/// What a type holds as a value: the signature of an `fn(&T)` or `Fn(&T)` only says what will be passed one day.
#[derive(Default)]
struct Inside<'a> {
    references: Vec<&'a TypeReference>,
    opaque: Vec<&'a TypeImplTrait>,
}

impl<'a> Inside<'a> {
    fn of(ty: &'a Type) -> Self {
        let mut inside = Self::default();
        inside.visit_type(ty);
        inside
    }
}

impl<'a> Visit<'a> for Inside<'a> {
    fn visit_type_reference(&mut self, node: &'a TypeReference) {
        self.references.push(node);
        visit::visit_type_reference(self, node);
    }

    fn visit_type_impl_trait(&mut self, node: &'a TypeImplTrait) {
        self.opaque.push(node);
        visit::visit_type_impl_trait(self, node);
    }

    fn visit_type_fn_ptr(&mut self, _: &'a TypeFnPtr) {}

    fn visit_parenthesized_generic_arguments(&mut self, _: &'a ParenthesizedGenericArguments) {}
}

/// What to return instead of a reference to `elem`.
fn owned_form(elem: &Type) -> String {
    let name = match peel(elem) {
        Type::Slice(slice) => return format!("an owned value, such as `Vec<{}>`", source(&slice.elem)),
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default(),
        _ => String::new(),
    };
    match &*name {
        "str" => "an owned value, such as `String`".to_owned(),
        "Path" => "an owned value, such as `PathBuf`".to_owned(),
        "OsStr" => "an owned value, such as `OsString`".to_owned(),
        "" => "an owned value".to_owned(),
        _ => format!("an owned value, such as `{}`", source(elem)),
    }
}

fn bound_name(opaque: &TypeImplTrait) -> Option<String> {
    opaque.bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    })
}

/// The text as the user wrote it, where the compiler still knows.
fn source<T: ToTokens>(tokens: &T) -> String {
    let tokens: TokenStream = tokens.to_token_stream();
    let mut all = tokens.clone().into_iter();
    match (all.next(), all.next()) {
        (Some(only), None) => only.to_string(),
        _ => tokens.to_string(),
    }
}
