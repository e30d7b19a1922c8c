/** Rules of the kinds of trust that a schema cannot say. */
import { invalid } from './causes.ts'
import type { Rule } from './check.ts'
import type { User } from './trust.ts'

/** Names that certificates of the system's own parts carry begin with `system`; no person may look like one. */
export const userRules: readonly Rule<User>[] = [
  {
    reads: ['metadata.name'],
    check: ({ metadata: { name } }) =>
      /^system([^a-z]|$)/.test(name) ? [invalid('metadata.name', name, 'must not begin with "system"')] : [],
  },
]
