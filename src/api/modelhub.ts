/** The hub as the control plane sees it: what a model at a revision is, without its weights. `src/server/hub` reads it. */
import { OpError } from '../lib/errors.ts'
import type { ModelFile, ModelShape, ModelSpec } from './model.ts'
import type { ModelRef } from './modeldeployment.ts'
import { parseSource } from './sources.ts'

/** The revision of an `hf://` source that says none. */
export const DEFAULT_REVISION = 'main'
export const DEFAULT_HUB = 'https://huggingface.co'

/** Is a Model of the source and revision that a reference names? Who says no revision means main. */
export const isOfRef = (spec: Pick<ModelSpec, 'source' | 'revision'>, ref: Pick<ModelRef, 'source' | 'revision'>) =>
  spec.source !== undefined &&
  spec.source === ref.source &&
  (spec.revision ?? DEFAULT_REVISION) === (ref.revision ?? DEFAULT_REVISION)

export interface HubModel {
  readonly shape: ModelShape
  readonly digest: string
  /** The commit that everything else is of; for an https:// file, what stands for its content. */
  readonly resolvedRevision: string
  readonly files: readonly ModelFile[]
}

export interface ModelHub {
  /**
   * What `org/name` is at this branch, tag or commit. OpError: Unauthorized (a token is missing or not enough), NotFound
   * (no such repository or revision), Invalid (files that make no model: names file and cause), Unavailable (the hub
   * does not answer, or not with the truth), Cancelled.
   */
  read(repository: string, revision: string, signal: AbortSignal): Promise<HubModel>
  /** What the one GGUF file at an https:// address is; `sha256` is what it must be. The same errors. */
  readFile(url: string, sha256: string | undefined, signal: AbortSignal): Promise<HubModel>
}

/** What a source is that a ModelHub can read; `revision` counts for hf:// alone. OpError Invalid for other forms. */
export function readSource(hub: ModelHub, source: string, revision: string, signal: AbortSignal): Promise<HubModel> {
  const parsed = parseSource(source)
  if (parsed.form === 'HuggingFace') return hub.read(parsed.repository, revision, signal)
  if (parsed.form === 'Url') return hub.readFile(parsed.url, parsed.sha256, signal)
  return Promise.reject(new OpError('Invalid', `read ${source}: only hf:// and https:// sources are read from afar`))
}
