/** The hub as the control plane sees it: what a model at a revision is, without its weights. `src/server/hub` reads it. */
import type { ModelFile, ModelShape } from './model.ts'

/** The revision of an `hf://` source that says none. */
export const DEFAULT_REVISION = 'main'
export const DEFAULT_HUB = 'https://huggingface.co'

export interface HubModel {
  readonly shape: ModelShape
  readonly digest: string
  /** The commit that everything else is of. */
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
}
