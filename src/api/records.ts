/** Revision, Event and ApplySet: what was wanted, what happened, and what was applied together. */
import type { DeploymentTemplate } from './modeldeployment.ts'
import type { ObjectMeta } from './meta.ts'

/** `<deployment>-r<N>`: an immutable, defaulted template. */
export interface Revision {
  readonly apiVersion: string
  readonly kind: 'Revision'
  readonly metadata: ObjectMeta
  readonly spec: { readonly deployment: string; readonly revision: number; readonly template: DeploymentTemplate }
}

export const revisionName = (deployment: string, revision: number): string => `${deployment}-r${revision}`

export const CHANGE_CAUSE_ANNOTATION = 'mctl.dev/change-cause'

/** Why a deployment was changed, in a person's words; kubectl's annotation counts, too. */
export const changeCauseOf = ({ metadata }: { readonly metadata: ObjectMeta }): string | undefined =>
  metadata.annotations?.[CHANGE_CAUSE_ANNOTATION] ?? metadata.annotations?.['kubernetes.io/change-cause']

/** What `mctl apply --prune --applyset` applied together. Its members carry its id as a label. */
export interface ApplySet {
  readonly apiVersion: string
  readonly kind: 'ApplySet'
  readonly metadata: ObjectMeta
  readonly spec: { readonly id: string; readonly kinds: readonly string[]; readonly namespaces: readonly string[] }
}

/** The label that tells members. */
export const APPLYSET_LABEL = 'applyset.mctl.dev/part-of'

export interface InvolvedObject {
  readonly apiVersion: string
  readonly kind: string
  readonly namespace?: string
  readonly name: string
  readonly uid: string
}

/** core/v1's shape. Kept 24 h; the same event again is a higher count. */
export interface Event {
  readonly apiVersion: string
  readonly kind: 'Event'
  readonly metadata: ObjectMeta
  readonly involvedObject: InvolvedObject
  readonly type: 'Normal' | 'Warning'
  readonly reason: string
  readonly message: string
  readonly count: number
  readonly firstTimestamp: string
  readonly lastTimestamp: string
  readonly source: { readonly component: string; readonly host?: string }
}
