/**
 * Reads schemas/rpc/mctl.proto into the method definitions that grpc-js serves and calls. Once per process. By protobufjs
 * itself: what @grpc/proto-loader makes beside (descriptors, for reflection) costs every call of the command line as much
 * as an empty process (docs/decisions/0012-start-up.md).
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { MethodDefinition } from '@grpc/grpc-js'
import type { Method as ServiceMethod, Type } from 'protobufjs'
import protobuf from 'protobufjs'
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

const SERVICE = 'mctl.v1alpha1.Mctl'

function load(): Readonly<Record<string, Method>> {
  const service = new protobuf.Root().loadSync(protoFile()).lookupService(SERVICE)
  return Object.fromEntries(
    service.methodsArray.map((method) => {
      // Of the messages, what is never sent is never looked at.
      const { name, requestStream, responseStream, resolvedRequestType, resolvedResponseType } =
        method.resolve() as ServiceMethod
      assert(
        resolvedRequestType !== null && resolvedResponseType !== null,
        `mctl.proto does not say what ${name} takes`,
      )
      const [request, response] = [codingOf(resolvedRequestType), codingOf(resolvedResponseType)]
      const definition: Method = {
        path: `/${SERVICE}/${name}`,
        requestStream: requestStream === true,
        responseStream: responseStream === true,
        requestSerialize: request.serialize,
        requestDeserialize: request.deserialize,
        responseSerialize: response.serialize,
        responseDeserialize: response.deserialize,
      }
      return [name, definition]
    }),
  )
}

/** Absent fields stay absent; numbers are numbers, bytes Buffers. */
const codingOf = (type: Type) => ({
  serialize: (message: Wire): Buffer => {
    const bytes = type.encode(type.fromObject(message)).finish()
    return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes)
  },
  deserialize: (bytes: Buffer): Wire => type.toObject(type.decode(bytes), { longs: Number, defaults: false }) as Wire,
})

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
