// Nominal types over primitives: a CheckpointId is not just any number.

declare const brand: unique symbol;

/** A `T` that only a cast at its place of birth can make, so that two ids of one primitive type cannot be swapped. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
