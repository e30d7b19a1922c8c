/** What an agent's thread and a thread of transfers say to each other. `part` numbers parts within one such thread. */
import type { FileRequest, Head, PartPlace, Verdict } from './transfers.ts'

/** One call at a time for a part; each is answered by one Done or Failed. */
export type Call =
  | { readonly kind: 'Open'; readonly place: PartPlace }
  | { readonly kind: 'Receive'; readonly request: FileRequest }
  | { readonly kind: 'Restart' }
  | { readonly kind: 'Sha256' }
  | { readonly kind: 'Close' }

export type ToThread =
  | { readonly part: number; readonly call: Call }
  /** The answer to Head. */
  | { readonly part: number; readonly verdict: Verdict }
  /** Ends the call that is underway. */
  | { readonly part: number; readonly abort: true }

export type FromThread = { readonly part: number } & (
  | { readonly kind: 'Head'; readonly head: Head }
  | { readonly kind: 'Bytes'; readonly bytes: number }
  | { readonly kind: 'Done'; readonly bytes: number; readonly sha256?: string }
  | { readonly kind: 'Failed'; readonly bytes: number; readonly message: string; readonly code?: string }
)
