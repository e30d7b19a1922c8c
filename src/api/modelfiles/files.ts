/** The door to a model's files, wherever they are: a folder on disk, ranges over HTTP, bytes in a test. */
import { OpError } from '../../lib/errors.ts'

export interface ModelFiles {
  /** Names relative to the model's folder. */
  readonly files: readonly { readonly name: string; readonly sizeBytes: number }[]
  /** The bytes [start, end) of a file; fewer only where the file ends. */
  readonly readRange: (file: string, start: number, end: number) => Promise<Uint8Array>
}

export const sizeOf = (model: ModelFiles, file: string): number | undefined =>
  model.files.find((f) => f.name === file)?.sizeBytes

/** What is wrong with a file, as an error that names it. */
export const fileFault = (file: string, detail: string, cause?: unknown): OpError =>
  new OpError('Invalid', `read model file ${file}: ${detail}`, cause === undefined ? {} : { cause })

/** Exactly the bytes [start, end); Invalid when the file is shorter than it was said to be. */
export async function readExactly(model: ModelFiles, file: string, start: number, end: number): Promise<Uint8Array> {
  const bytes = await model.readRange(file, start, end)
  if (bytes.byteLength !== end - start)
    throw fileFault(file, `the file is truncated: bytes ${start} to ${end} wanted, ${bytes.byteLength} there`)
  return bytes
}

/** A whole small JSON file that must hold a map; Invalid when it is missing, larger than `maxBytes`, or no such JSON. */
export async function readJsonMap(
  model: ModelFiles,
  file: string,
  maxBytes: number,
): Promise<Readonly<Record<string, unknown>>> {
  const sizeBytes = sizeOf(model, file)
  if (sizeBytes === undefined) throw fileFault(file, 'the file is missing')
  if (sizeBytes > maxBytes) throw fileFault(file, `the file is too large: ${sizeBytes} bytes, at most ${maxBytes}`)
  return parseJsonMap(file, await readExactly(model, file, 0, sizeBytes))
}

export function parseJsonMap(file: string, bytes: Uint8Array): Readonly<Record<string, unknown>> {
  const value = parseJson(file, bytes)
  if (!isMap(value)) throw fileFault(file, 'must hold a JSON map')
  return value
}

function parseJson(file: string, bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw fileFault(file, 'no valid JSON', cause)
  }
}

export const isMap = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A whole number from 0 to 2^53 − 1. */
export const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
