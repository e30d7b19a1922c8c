/** Reads schemas/rpc/mctl.proto into the method definitions that grpc-js serves and calls. Once per process. */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { MethodDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { assert } from '../lib/errors.ts'
import type { Wire } from './codec.ts'

export type Method = MethodDefinition<Wire, Wire>

let loaded: Readonly<Record<string, Method>> | undefined

/** By the name of the rpc, e.g. `Apply`. */
export function protoMethods(): Readonly<Record<string, Method>> {
  loaded ??= load()
  return loaded
}

export function protoMethod(rpc: string): Method {
  const method = protoMethods()[rpc]
  assert(method !== undefined, `mctl.proto has no rpc ${rpc}`)
  return method
}

function load(): Readonly<Record<string, Method>> {
  const service = loadSync(protoFile(), { longs: Number, defaults: false, oneofs: false })['mctl.v1alpha1.Mctl']
  assert(service !== undefined, 'mctl.proto defines no service Mctl')
  return service as unknown as Readonly<Record<string, Method>>
}

/** Beside `src` when run from source, beside `dist` when built: the nearest folder above that has it. */
function protoFile(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  for (;;) {
    const file = join(folder, 'schemas', 'rpc', 'mctl.proto')
    if (existsSync(file)) return file
    assert(dirname(folder) !== folder, 'schemas/rpc/mctl.proto is missing from the installation')
    folder = dirname(folder)
  }
}
