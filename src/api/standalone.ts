/**
 * Validators as ready-made programs: `npm run build` writes one for each kind beside the built code, so that a call of the
 * command line neither loads the compiler of schemas nor compiles. Their names hold a hash of what they were made from:
 * after a change of a schema there is none that fits, and the schema is compiled as it was before.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { ValidateFunction } from 'ajv/dist/2020.js'

const require = createRequire(import.meta.url)

export interface StandaloneSource {
  /** In lower case. */
  readonly kind: string
  /** Of the files that it is made from. */
  readonly hash: string
}

export function hashOf(texts: readonly string[]): string {
  const hash = createHash('sha256')
  for (const text of texts) hash.update(text)
  return hash.digest('hex').slice(0, 16)
}

const fileFor = ({ kind, hash }: StandaloneSource): string => `${kind}-${hash}.cjs`

/** The ready-made validator; undefined: none was made from these files. */
export function loadStandalone(folder: string, source: StandaloneSource): ValidateFunction | undefined {
  const path = join(folder, fileFor(source))
  return existsSync(path) ? (require(path) as ValidateFunction) : undefined
}

/** Writes the programs, and removes those of schemas as they were before. */
export function writeStandalone(
  folder: string,
  programs: readonly { readonly source: StandaloneSource; readonly code: string }[],
): void {
  mkdirSync(folder, { recursive: true })
  const names = programs.map(({ source }) => fileFor(source))
  programs.forEach(({ code }, i) => writeFileSync(join(folder, names[i] ?? ''), code))
  for (const name of readdirSync(folder)) if (!names.includes(name)) rmSync(join(folder, name))
}
