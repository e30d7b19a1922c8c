/**
 * A look at the flat tokens before they are composed: the library composes recursively and a text of 200,000 brackets
 * would take the whole process down, and a handful of aliases can expand to gigabytes.
 */
import type { CST } from 'yaml'

const MAX_DEPTH = 64
const MAX_ANCHORS = 100

export interface TokenFault {
  readonly offset: number
  readonly message: string
}

interface Step {
  readonly token: CST.Token
  readonly depth: number
}

/** The first reason not to compose the tokens; undefined when there is none. Needs no stack, whatever the depth. */
export function tokenFault(tokens: readonly CST.Token[]): TokenFault | undefined {
  const steps: Step[] = tokens.map((token) => ({ token, depth: 0 })).reverse()
  let anchors = 0
  for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
    const { token, depth } = step
    if (token.type === 'alias')
      return {
        offset: token.offset,
        message: `aliases are not supported: write the value out instead of ${token.source}`,
      }
    if (token.type === 'anchor') anchors++
    if (depth > MAX_DEPTH || anchors > MAX_ANCHORS)
      return {
        offset: token.offset,
        message:
          depth > MAX_DEPTH
            ? `nested too deeply: must be at most ${MAX_DEPTH} levels`
            : `too many anchors: must be at most ${MAX_ANCHORS}`,
      }
    for (const child of childrenOf(token).reverse()) steps.push({ token: child, depth: depth + 1 })
  }
  return undefined
}

/** In the order of the text, so that the first fault is the first one a reader meets. */
function childrenOf(token: CST.Token): CST.Token[] {
  if (token.type === 'document') return [...token.start, ...(token.value === undefined ? [] : [token.value])]
  if (!('items' in token)) return []
  const children: CST.Token[] = []
  const isAnchor = (source: CST.SourceToken) => source.type === 'anchor'
  for (const { start, key, sep, value } of token.items) {
    for (const anchor of start) if (isAnchor(anchor)) children.push(anchor)
    if (key !== undefined && key !== null) children.push(key)
    for (const anchor of sep ?? []) if (isAnchor(anchor)) children.push(anchor)
    if (value !== undefined) children.push(value)
  }
  return children
}
