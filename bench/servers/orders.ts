// What a bench asks of a server that it has started: one order, one answer, over the channel between parent and child.

export interface Order {
  readonly id: number
  readonly kind: string
  readonly body: unknown
}

export interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

export type Orders = { readonly [kind: string]: (body: never) => Promise<unknown> }

/** Answers them as they come. */
export function takeOrders(orders: Orders): void {
  process.on('message', ({ id, kind, body }: Order) => {
    const order = orders[kind]
    if (order === undefined) throw new Error(`no order ${kind}`)
    order(body as never).then(
      value => process.send?.({ id, value } satisfies Answer),
      (error: Error) => process.send?.({ id, error: error.message } satisfies Answer),
    )
  })
}
