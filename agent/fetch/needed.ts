/** Which files of a model a rank needs. Pure: the server's list, the index of the weights, and the rank's stage. */
import type { ModelFile } from '../../src/api/model.ts'
import type { Shard } from '../../src/api/shard.ts'
import type { Stage } from '../../src/api/words.ts'
import { OpError } from '../../src/lib/errors.ts'

/** What a shard wants to have here before it is prepared. */
export interface WantedModel {
  readonly source: string
  /** `org/name` */
  readonly repository: string
  /** The commit that all ranks of all nodes read. */
  readonly commit: string
  readonly digest: string | undefined
  readonly files: readonly ModelFile[]
  /** Layers [start, end) of a pipeline rank; undefined: all. */
  readonly stage: Stage | undefined
}

export const INDEX = 'model.safetensors.index.json'
const PREFIX = 'hf://'

/** The model that the agent can fetch for this shard; undefined when its source is no `hf://`, or was not read yet. */
export function wantedModel({ spec }: Shard): WantedModel | undefined {
  const { source, revision, digest, files } = spec.model
  if (source?.startsWith(PREFIX) !== true || revision === undefined || files === undefined) return undefined
  return {
    source,
    repository: source.slice(PREFIX.length),
    commit: revision,
    digest,
    files,
    stage: spec.strategy === 'Pipeline' ? spec.stage : undefined,
  }
}

/** `<org>--<name>@<commit12>`: what one commit holds never changes, so neither does the folder. */
export const folderName = ({ repository, commit }: Pick<WantedModel, 'repository' | 'commit'>): string =>
  `${repository.replace('/', '--')}@${commit.slice(0, 12)}`

/** OpError Invalid for what no list of ours says: such a name or commit could lead out of the models folder. */
export function checkWanted({ source, repository, commit, files }: WantedModel): void {
  const refuse = (what: string) => new OpError('Invalid', `fetch ${source}: ${what}`)
  if (!/^[\w.-]+\/[\w.-]+$/.test(repository) || repository.includes('..')) throw refuse('no name of a repository')
  if (!/^[0-9a-zA-Z]{7,64}$/.test(commit)) throw refuse(`revision ${JSON.stringify(commit)} is no commit`)
  for (const { name, sizeBytes, sha256 } of files)
    if (!/^[\w][^/\\\0]*$/.test(name) || !Number.isSafeInteger(sizeBytes) || !/^[0-9a-f]{64}$/.test(sha256))
      throw refuse(`its list names a file ${JSON.stringify(name)} that has no plain name, size and sha256`)
}

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
