/**
 * Loads the WebAssembly kernels that `npm run build` compiles from kernel/assembly to build/.
 * A module is compiled once for each thread.
 */
import { readFileSync } from 'node:fs'
import { Failure } from '../base/failure.ts'

export type KernelName = 'page-kernel' | 'record-kernel'

/** The little of the WebAssembly API that is used: Node's types do not have it. */
interface WebAssemblyApi {
  readonly Memory: new (limits: { initial: number }) => KernelMemory
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown }
}

export interface KernelMemory {
  readonly buffer: ArrayBuffer
}

const WASM = (globalThis as unknown as { readonly WebAssembly: WebAssemblyApi }).WebAssembly
const MODULES = new Map<KernelName, object>()

export const WASM_PAGE_BYTES = 65536

/** An instance with a memory of its own; `Exports` is what its source says. */
export function startKernel<Exports>(
  name: KernelName,
  memoryBytes: number,
): { readonly kernel: Exports; readonly memory: KernelMemory } {
  const memory = new WASM.Memory({ initial: Math.ceil(memoryBytes / WASM_PAGE_BYTES) })
  const module = MODULES.get(name) ?? new WASM.Module(readModule(name))
  MODULES.set(name, module)
  const kernel = new WASM.Instance(module, { env: { memory } }).exports as Exports
  return { kernel, memory }
}

/** Two levels below the root in a checkout (src/postgres/) and in the package (dist/cli/). */
function readModule(name: KernelName): Buffer<ArrayBuffer> {
  try {
    return readFileSync(new URL(`../../build/${name}.wasm`, import.meta.url))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
    throw new Failure('TM1803', {
      message: `the ${name.replace('-', ' ')} (${name}.wasm) is missing from this installation`,
      because: 'it is compiled from src/postgres/kernel and was not found in build/',
      fix: 'run `npm run build` in a checkout, or install the package again',
      cause,
    })
  }
}
