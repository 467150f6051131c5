// The types of what typebox.js bundles.
export { type Static, type TObject, type TProperties, type TSchema, type TUnsafe, Type } from 'typebox'
export { Compile } from 'typebox/compile'
export { Value } from 'typebox/value'
