// The part of the engine's WebAssembly interface that is used here; the types of Node do not carry it.

declare namespace WebAssembly {
  interface Module {
    readonly __module: never
  }

  interface Memory {
    readonly buffer: SharedArrayBuffer
  }

  interface Global {
    // The engine gives a bigint for i64 and a number for the others.
    // biome-ignore lint/suspicious/noExplicitAny: typed by the global's own type, known only at run time
    value: any
  }

  interface Instance {
    readonly exports: { readonly [name: string]: unknown }
  }
}

declare const WebAssembly: {
  compile(bytes: Uint8Array<ArrayBuffer>): Promise<WebAssembly.Module>
  readonly Memory: new (limits: {
    readonly initial: number
    readonly maximum: number
    readonly shared: true
  }) => WebAssembly.Memory
  readonly Instance: new (
    module: WebAssembly.Module,
    imports: { readonly env: { readonly memory: WebAssembly.Memory } },
  ) => WebAssembly.Instance
  readonly Global: { [Symbol.hasInstance](value: unknown): value is WebAssembly.Global }
}
