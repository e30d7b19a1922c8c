/** Which files of a model a rank needs. Pure: the server's list, the index of the weights, and the rank's stage. */
import { basename, join } from 'node:path'
import type { ModelFile } from '../../src/api/model.ts'
import type { Shard } from '../../src/api/shard.ts'
import { readsFiles } from '../../src/api/shard.ts'
import { parseSource } from '../../src/api/sources.ts'
import type { Stage } from '../../src/api/words.ts'
import { OpError } from '../../src/lib/errors.ts'

/** What a shard wants to have here before it is prepared. */
export interface WantedModel {
  /** `hf://org/name`, or `https://…` of one GGUF file. */
  readonly source: string
  /** What all ranks of all nodes read: the commit, or for a file at https:// what stands for its content. */
  readonly commit: string
  readonly digest: string | undefined
  readonly files: readonly ModelFile[]
  /** Layers [start, end) of a pipeline rank; undefined: all. */
  readonly stage: Stage | undefined
}

export const INDEX = 'model.safetensors.index.json'

/** The model that the agent can fetch for this shard; undefined when it needs none, or its source is none to fetch or was not read yet. */
export function wantedModel(shard: Shard): WantedModel | undefined {
  const { spec } = shard
  const { source, revision, digest, files } = spec.model
  if (source === undefined || !/^(?:hf|https):\/\//.test(source)) return undefined
  if (revision === undefined || files === undefined || !readsFiles(shard)) return undefined
  return { source, commit: revision, digest, files, stage: spec.strategy === 'Pipeline' ? spec.stage : undefined }
}

/** Where a file is asked for. */
export function addressOf(endpoint: string, { source, commit }: WantedModel, { name }: ModelFile): string {
  const parsed = parseSource(source)
  return parsed.form === 'Url'
    ? parsed.url
    : `${endpoint}/${repositoryOf(source)}/resolve/${commit}/${encodeURIComponent(name)}`
}

const repositoryOf = (source: string): string => source.slice('hf://'.length)

/** What one commit holds never changes, so neither does its folder: `hf/<org>--<name>@<commit12>`, `https/<host>--…`. */
export function folderName({ source, commit }: Pick<WantedModel, 'source' | 'commit'>): string {
  const parsed = parseSource(source)
  const at = commit.slice(0, 12)
  if (parsed.form !== 'Url') return join('hf', `${repositoryOf(source).replace('/', '--')}@${at}`)
  const { host, pathname } = new URL(parsed.url)
  return join('https', `${plain(host)}--${plain(basename(pathname, '.gguf'))}@${at}`)
}

const plain = (text: string): string => text.replaceAll(/[^A-Za-z0-9._-]+/g, '-').slice(0, 96)

/** A name of a folder that fetching makes; what a peer asks for must have this form. */
export const isFolderName = (name: string): boolean => /^(?:hf|https)\/[\w-][\w.-]*@[0-9a-zA-Z]{7,12}$/.test(name)

/** OpError Invalid for what no list of ours says: such a name or commit could lead out of the models folder. */
export function checkWanted(model: WantedModel): void {
  const { source, commit, files } = model
  const refuse = (what: string) => new OpError('Invalid', `fetch ${source}: ${what}`)
  const { form } = parseSource(source)
  if (form !== 'HuggingFace' && form !== 'Url') throw refuse('no source that can be fetched')
  if (!/^[0-9a-zA-Z]{7,64}$/.test(commit)) throw refuse(`revision ${JSON.stringify(commit)} is no commit`)
  if (!isFolderName(folderName(model))) throw refuse('its name makes no name of a folder')
  for (const file of files)
    if (!isPlainFile(file))
      throw refuse(`its list names a file ${JSON.stringify(file.name)} that has no plain name, size and sha256`)
}

/** A name without a way elsewhere, a size, and what its content is known by. */
export const isPlainFile = ({ name, sizeBytes, sha256, etag }: ModelFile): boolean =>
  /^[\w][^/\\\0]*$/.test(name) &&
  Number.isSafeInteger(sizeBytes) &&
  (sha256 === undefined ? etag !== undefined : isSha256(sha256))

export const isSha256 = (text: string): boolean => /^[0-9a-f]{64}$/.test(text)

const isWeight = ({ name }: ModelFile): boolean => /\.(?:safetensors|gguf)$/.test(name)

/** Configuration, tokenizer, index: every rank needs them, and they say which weights it needs. */
export const smallFiles = (files: readonly ModelFile[]): readonly ModelFile[] => files.filter((f) => !isWeight(f))

/** As the shim's (agent/runtimes/mlx/shim/load.py): it looks for exactly the files that this finds. */
const layerPattern = /(?:^|\.)layers\.(\d+)\./

/**
 * Everything that the rank reads: all files, or for a stage those with its layers and with tensors outside of layers.
 * `weightMap`: tensor → file out of the index; undefined when there is none, and then no file can be left out.
 */
export function neededFiles(
  files: readonly ModelFile[],
  stage: Stage | undefined,
  weightMap: Readonly<Record<string, string>> | undefined,
): readonly ModelFile[] {
  if (stage === undefined || weightMap === undefined) return files
  const [start, end] = stage
  const holding = new Set<string>()
  for (const [tensor, file] of Object.entries(weightMap)) {
    const layer = layerPattern.exec(tensor)?.[1]
    if (layer === undefined || (start <= Number(layer) && Number(layer) < end)) holding.add(file)
  }
  return files.filter((f) => !isWeight(f) || holding.has(f.name))
}

export const totalBytes = (files: readonly ModelFile[]): number => files.reduce((sum, f) => sum + f.sizeBytes, 0)
