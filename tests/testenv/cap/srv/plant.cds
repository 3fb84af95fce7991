// A small sales system. Decimals keep 15 digits here: SQLite behind CAP has no
// more.
service plant @(path: 'plant', requires: 'authenticated-user') {
  entity Orders {
    key id       : Integer;
        customer : String(40) @mandatory;
        note     : String(20);
        status   : String(10) @assert.range enum { open; paid; closed };
        total    : Decimal(15, 4);
        quantity : Integer64;
        day      : Date;
        at       : Timestamp;
        seen     : DateTime;
        clock    : Time;
        ref      : UUID;
        paid     : Boolean;
        weight   : Double;
        digest   : Binary(100);
        items    : Composition of many Items on items.parent = $self;
  }

  entity Items {
    key parent  : Association to Orders;
    key pos     : Integer;
        product : String(40);
        price   : Decimal(15, 2);
  }

  // A key of texts, to be sorted one way or another.
  entity Names {
    key name : String(60);
    key part : Integer;
        text : String(100);
  }
}
