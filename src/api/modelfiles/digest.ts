/** Which files make a model, and one digest over them: the same whether they are told by the hub or hashed on a disk. */
import { createHash } from 'node:crypto'
import type { ModelFile } from '../model.ts'

/** Files whose bytes decide what a model says: weights, configuration, tokenizer and templates. */
const counted = /^[^/.][^/]*\.(?:json|safetensors|model|txt|jinja|gguf|tiktoken)$/
/** Text about the model that no engine reads. */
const ignored = /^(?:readme|license|notice|use_policy|requirements)\b/i

/**
 * Of the files at a source, those that an engine needs. `weights`: the weight files of the model, as its index names
 * them; other weights (adapters, another format's copy) are left where they are.
 */
export function neededFiles(names: readonly string[], weights: readonly string[]): readonly string[] {
  const isWeights = (name: string) => /\.(?:safetensors|gguf)$/.test(name)
  return names
    .filter((name) => counted.test(name) && !ignored.test(name))
    .filter((name) => !isWeights(name) || weights.includes(name))
    .sort((a, b) => (a < b ? -1 : 1))
}

/** sha256 over names, sizes and contents (or what stands for them) in order of names. */
export function digestOf(files: readonly ModelFile[]): string {
  const whole = createHash('sha256')
  const sorted = [...files].sort((a, b) => (a.name < b.name ? -1 : 1))
  for (const { name, sizeBytes, sha256, etag } of sorted) whole.update(`${name}\0${sizeBytes}\0${sha256 ?? etag}\n`)
  return `sha256:${whole.digest('hex')}`
}
